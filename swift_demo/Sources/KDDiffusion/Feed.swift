import KDNumerics

/// What a component is fed in the loop, by the names of the loop.
struct Feed: Sendable {
    /// Tensors with a row for each row of the batch.
    var tensors: [String: Tensor]
    /// Numbers that hold for all rows.
    var numbers: [String: Float] = [:]

    /// Rows of the batch.
    var rows: Int { tensors.values.first?.rows ?? 0 }

    /// Some of the rows; the last one is repeated where there are fewer than `count`.
    func rows(from start: Int, count: Int) throws -> Feed {
        let end = min(start + count, rows)
        let pieces = try tensors.mapValues { tensor in
            let piece = try tensor.rows(start..<end)
            guard end < start + count else { return piece }
            let last = try tensor.row(end - 1).copies(start + count - end)
            return try Tensor.concatenated([piece, last])
        }
        return Feed(tensors: pieces, numbers: numbers)
    }

    /// An input of a package.
    ///
    /// A number fills the input; text embeddings `(rows, tokens, channels)` become `(rows,
    /// channels, 1, tokens)` where the input has four dimensions; all else is the same in both.
    ///
    /// - Parameters:
    ///   - spec: The input.
    ///   - meaning: Its name in the loop.
    ///   - file: The component's file, for the errors.
    func input(_ spec: TensorSpec, meaning: String, file: String) throws -> Tensor {
        if let number = numbers[meaning] {
            return Tensor(repeating: number, shape: spec.shape.compactMap(\.size))
        }
        guard let tensor = tensors[meaning] else {
            throw KDError.unknownInput(spec.name, file: file)
        }
        let isText = spec.shape.count == 4 && tensor.shape.count == 3
        return isText ? tensor.channelsFirst() : tensor
    }
}

extension Tensor {
    /// All rows so many times, one set after the other.
    func copies(_ count: Int) throws -> Tensor {
        try Tensor.concatenated(Array(repeating: self, count: count))
    }

    /// `(rows, tokens, channels)` as `(rows, channels, 1, tokens)`.
    func channelsFirst() -> Tensor {
        let (rows, tokens, channels) = (shape[0], shape[1], shape[2])
        let turned = [Float](unsafeUninitializedCapacity: values.count) { buffer, count in
            for row in 0..<rows {
                let start = row * tokens * channels
                for token in 0..<tokens {
                    for channel in 0..<channels {
                        buffer.initializeElement(
                            at: start + channel * tokens + token,
                            to: values[start + token * channels + channel])
                    }
                }
            }
            count = values.count
        }
        return Tensor(shape: [rows, channels, 1, tokens], values: turned)
    }
}
