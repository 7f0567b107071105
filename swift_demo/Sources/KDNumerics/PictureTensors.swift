extension Picture {
    /// What a VAE encoder reads: `(1, 3, height, width)`, -1 to 1 for black to white.
    public func signed() -> Tensor {
        planes { 2 * (Float($0) / 255) - 1 }
    }

    /// What a ControlNet reads, once the picture has its size: `(1, 3, height, width)`, 0 to 1.
    ///
    /// - Parameter inverted: Whether to take the negative. Of a picture that is yet to be resized
    ///   take `inverted()` before that, as rounding is not the same both ways.
    public func unit(inverted: Bool = false) -> Tensor {
        let picture = inverted ? self.inverted() : self
        return picture.planes { Float($0) / 255 }
    }

    /// Turns decoder output into 8-bit pixels; halves are rounded to even.
    ///
    /// - Parameters:
    ///   - decoded: `(n, 3, height, width)`, -1 to 1 for black to white; what is beyond is cut off.
    ///   - row: Which of them.
    /// - Throws: `PictureError` where there is no such picture.
    public init(decoded: Tensor, row: Int) throws {
        let shape = decoded.shape
        guard shape.count == 4, shape[1] == 3, shape[2] > 0, shape[3] > 0,
            (0..<shape[0]).contains(row)
        else { throw PictureError.decoded(shape: shape, row: row) }
        let area = shape[2] * shape[3]
        let pixels = [UInt8](unsafeUninitializedCapacity: 3 * area) { buffer, count in
            decoded.values.withUnsafeBufferPointer { values in
                for channel in 0..<3 {
                    let start = (row * 3 + channel) * area
                    for place in 0..<area {
                        buffer.initializeElement(
                            at: 3 * place + channel, to: byte(values[start + place]))
                    }
                }
            }
            count = 3 * area
        }
        self.init(checked: shape[3], shape[2], pixels)
    }

    private func planes(_ transform: (UInt8) -> Float) -> Tensor {
        let table = (0...255).map { transform(UInt8($0)) }
        let area = width * height
        let values = [Float](unsafeUninitializedCapacity: 3 * area) { buffer, count in
            for channel in 0..<3 {
                for place in 0..<area {
                    let value = table[Int(pixels[3 * place + channel])]
                    buffer.initializeElement(at: channel * area + place, to: value)
                }
            }
            count = 3 * area
        }
        return Tensor(shape: [1, 3, height, width], values: values)
    }
}

/// A value from -1 to 1 as a byte; NaN, which a caller has refused before, would be black.
private func byte(_ value: Float) -> UInt8 {
    let unit = min(max(value * 0.5 + 0.5, 0), 1)
    return UInt8(exactly: (unit * 255).rounded(.toNearestOrEven)) ?? 0
}
