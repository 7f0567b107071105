import Foundation

extension Picture {
    /// The picture at another size; its proportions are not kept.
    ///
    /// The result is that of Pillow's `resize` with `LANCZOS`, byte for byte: columns first, then
    /// rows, weights in fixed point with 22 bits, each pass rounded to 8 bits.
    ///
    /// - Throws: `PictureError` where a size is below 1.
    public func resized(width: Int, height: Int) throws -> Picture {
        let (area, large) = width.multipliedReportingOverflow(by: height)
        guard width > 0, height > 0, !large, area < 1 << 48 else {
            throw PictureError.size(width: width, height: height)
        }
        var result = self
        if width != result.width { result = result.widened(Lanczos(from: self.width, to: width)) }
        if height != result.height {
            result = result.heightened(Lanczos(from: self.height, to: height))
        }
        return result
    }

    private func widened(_ lanczos: Lanczos) -> Picture {
        let width = lanczos.windows.count
        var result = [UInt8](repeating: 0, count: 3 * width * height)
        pixels.withUnsafeBufferPointer { source in
            result.withUnsafeMutableBufferPointer { target in
                for row in 0..<height {
                    for (column, window) in lanczos.windows.enumerated() {
                        let place = 3 * (row * width + column)
                        let first = 3 * (row * self.width + window.first)
                        for channel in 0..<3 {
                            target[place + channel] = window.sum(source, first + channel, 3)
                        }
                    }
                }
            }
        }
        return Picture(checked: width, height, result)
    }

    private func heightened(_ lanczos: Lanczos) -> Picture {
        let height = lanczos.windows.count
        let stride = 3 * width
        var result = [UInt8](repeating: 0, count: stride * height)
        pixels.withUnsafeBufferPointer { source in
            result.withUnsafeMutableBufferPointer { target in
                for (row, window) in lanczos.windows.enumerated() {
                    let first = window.first * stride
                    for place in 0..<stride {
                        target[row * stride + place] = window.sum(source, first + place, stride)
                    }
                }
            }
        }
        return Picture(checked: width, height, result)
    }
}

/// The weights of a resampling along one dimension.
struct Lanczos {
    /// What one pixel of the result is made of.
    struct Window {
        /// The first pixel of the source.
        let first: Int
        /// The weights of that pixel and those after it, times 2^22.
        let weights: [Int32]

        /// The weighted sum of bytes that lie `stride` apart, rounded and cut to 0...255.
        func sum(_ bytes: UnsafeBufferPointer<UInt8>, _ start: Int, _ stride: Int) -> UInt8 {
            var total: Int32 = 1 << (Lanczos.bits - 1)
            var place = start
            for weight in weights {
                total &+= weight &* Int32(bytes[place])
                place += stride
            }
            return UInt8(clamping: total >> Int32(Lanczos.bits))
        }
    }

    private static let bits = 22
    private static let lobes = 3.0

    /// One window for each pixel of the result.
    let windows: [Window]

    init(from source: Int, to target: Int) {
        let scale = Double(source) / Double(target)
        // Smaller pictures are made with a wider filter, larger ones with the filter as it is.
        let stretch = max(scale, 1)
        windows = (0..<target).map { index in
            Self.window(center: (Double(index) + 0.5) * scale, stretch: stretch, size: source)
        }
    }

    private static func window(center: Double, stretch: Double, size: Int) -> Window {
        let reach = lobes * stretch
        let first = max(Int(center - reach + 0.5), 0)
        let end = min(Int(center + reach + 0.5), size)
        let inverse = 1 / stretch
        let weights = (first..<end).map { kernel((Double($0) - center + 0.5) * inverse) }
        let total = weights.reduce(0, +)
        return Window(first: first, weights: weights.map { fixed(total == 0 ? $0 : $0 / total) })
    }

    private static func kernel(_ x: Double) -> Double {
        -lobes <= x && x < lobes ? sinc(x) * sinc(x / lobes) : 0
    }

    private static func sinc(_ x: Double) -> Double {
        x == 0 ? 1 : sin(x * .pi) / (x * .pi)
    }

    private static func fixed(_ weight: Double) -> Int32 {
        let scaled = weight * Double(1 << bits)
        return Int32(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
    }
}
