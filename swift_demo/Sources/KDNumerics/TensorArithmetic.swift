// Every operation rounds to 32 bits once, as NumPy's do: a product and a sum are never fused.

extension Tensor {
    /// The tensor of a function of each element.
    public func map(_ transform: (Float) -> Float) -> Tensor {
        Tensor(shape: shape, values: values.map(transform))
    }

    /// The tensor of a function of the elements of two tensors.
    ///
    /// - Throws: `TensorError` where the shapes differ.
    public func combined(
        with other: Tensor, _ combine: (Float, Float) -> Float
    ) throws -> Tensor {
        guard shape == other.shape else { throw TensorError.shapes(shape, other.shape) }
        let values = [Float](unsafeUninitializedCapacity: values.count) { buffer, count in
            self.values.withUnsafeBufferPointer { first in
                other.values.withUnsafeBufferPointer { second in
                    for index in 0..<first.count {
                        buffer.initializeElement(
                            at: index, to: combine(first[index], second[index]))
                    }
                }
            }
            count = self.values.count
        }
        return Tensor(shape: shape, values: values)
    }

    /// The sum of two tensors of one shape; throws `TensorError` where the shapes differ.
    public func adding(_ other: Tensor) throws -> Tensor { try combined(with: other, +) }

    /// The difference of two tensors of one shape; throws `TensorError` where the shapes differ.
    public func subtracting(_ other: Tensor) throws -> Tensor { try combined(with: other, -) }

    /// The product of the elements of two tensors of one shape; throws `TensorError` where the
    /// shapes differ.
    public func multiplied(by other: Tensor) throws -> Tensor { try combined(with: other, *) }

    /// Classifier-free guidance: `negative + guidance * (self - negative)`.
    ///
    /// - Parameters:
    ///   - guidance: The guidance scale.
    ///   - negative: The model output without the prompt, of the same shape.
    /// - Throws: `TensorError` where the shapes differ.
    public func guided(by guidance: Float, from negative: Tensor) throws -> Tensor {
        try negative.combined(with: self) { $0 + guidance * ($1 - $0) }
    }

    public static func * (factor: Float, tensor: Tensor) -> Tensor { tensor.map { factor * $0 } }
    public static func / (tensor: Tensor, divisor: Float) -> Tensor { tensor.map { $0 / divisor } }
    public static func + (tensor: Tensor, term: Float) -> Tensor { tensor.map { $0 + term } }
    public static func - (tensor: Tensor, term: Float) -> Tensor { tensor.map { $0 - term } }
}
