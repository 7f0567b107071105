extension Tensor {
    /// Some of the rows (entries of the first dimension), in order.
    ///
    /// - Throws: `TensorError` where there are no such rows.
    public func rows(_ range: Range<Int>) throws -> Tensor {
        guard let count = shape.first, range.lowerBound >= 0, range.upperBound <= count else {
            throw TensorError.rows(range, shape: shape)
        }
        if range == 0..<count { return self }
        let size = shape.dropFirst().reduce(1, *)
        let part = values[(range.lowerBound * size)..<(range.upperBound * size)]
        return Tensor(shape: [range.count] + shape.dropFirst(), values: Array(part))
    }

    /// One row, which stays the only one of a first dimension: `(n, …)` gives `(1, …)`.
    ///
    /// - Throws: `TensorError` where there is no such row.
    public func row(_ index: Int) throws -> Tensor {
        guard index >= 0, index < Int.max else { throw TensorError.rows(0..<0, shape: shape) }
        return try rows(index..<(index + 1))
    }

    /// Each row `times` times, copies side by side: rows a, b give a, a, b, b.
    public func repeatingRows(_ times: Int) -> Tensor {
        guard times != 1, let count = shape.first else { return self }
        let size = shape.dropFirst().reduce(1, *)
        var result: [Float] = []
        result.reserveCapacity(values.count * times)
        for row in 0..<count {
            for _ in 0..<times { result += values[(row * size)..<((row + 1) * size)] }
        }
        return Tensor(shape: [count * times] + shape.dropFirst(), values: result)
    }

    /// Joins tensors along a dimension, in order.
    ///
    /// - Parameters:
    ///   - tensors: One or more, all sizes but that of the dimension the same.
    ///   - axis: The dimension from 0, or from -1 for the last one.
    /// - Throws: `TensorError` where they do not fit.
    public static func concatenated(_ tensors: [Tensor], axis: Int = 0) throws -> Tensor {
        guard let first = tensors.first else { throw TensorError.empty }
        let axis = try first.checked(axis)
        if tensors.count == 1 { return first }
        for other in tensors where !first.fits(other, except: axis) {
            throw TensorError.shapes(first.shape, other.shape)
        }
        var shape = first.shape
        shape[axis] = tensors.reduce(0) { $0 + $1.shape[axis] }
        var values: [Float] = []
        values.reserveCapacity(shape.reduce(1, *))
        let runs = tensors.map { $0.shape[axis...].reduce(1, *) }
        for block in 0..<shape[..<axis].reduce(1, *) {
            for (tensor, run) in zip(tensors, runs) {
                values += tensor.values[(block * run)..<((block + 1) * run)]
            }
        }
        return Tensor(shape: shape, values: values)
    }

    /// Splits a dimension into equal parts, in order.
    ///
    /// - Parameters:
    ///   - parts: How many.
    ///   - axis: The dimension from 0, or from -1 for the last one.
    /// - Throws: `TensorError` where its size is no multiple of `parts`.
    public func split(_ parts: Int, axis: Int = 0) throws -> [Tensor] {
        let axis = try checked(axis)
        guard parts > 0, shape[axis] % parts == 0 else {
            throw TensorError.parts(parts, axis: axis, shape: shape)
        }
        var size = shape
        size[axis] /= parts
        let run = size[axis...].reduce(1, *)
        return (0..<parts).map { part in
            var values: [Float] = []
            values.reserveCapacity(self.values.count / parts)
            for block in 0..<shape[..<axis].reduce(1, *) {
                let start = (block * parts + part) * run
                values += self.values[start..<(start + run)]
            }
            return Tensor(shape: size, values: values)
        }
    }

    private func checked(_ axis: Int) throws -> Int {
        let positive = axis < 0 ? axis + shape.count : axis
        guard shape.indices.contains(positive) else {
            throw TensorError.axis(axis, shape: shape)
        }
        return positive
    }

    private func fits(_ other: Tensor, except axis: Int) -> Bool {
        shape.count == other.shape.count
            && shape.indices.allSatisfy { $0 == axis || shape[$0] == other.shape[$0] }
    }
}
