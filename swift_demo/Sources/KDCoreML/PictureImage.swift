#if canImport(CoreGraphics) && canImport(Darwin)
    import CoreGraphics
    import Foundation
    import KDNumerics

    extension Picture {
        /// The picture for views and files, its values taken as sRGB; nil where there is no memory.
        public var cgImage: CGImage? {
            guard let provider = CGDataProvider(data: Data(pixels) as CFData),
                let space = CGColorSpace(name: CGColorSpace.sRGB)
            else { return nil }
            return CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24,
                bytesPerRow: width * 3, space: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue),
                provider: provider, decode: nil, shouldInterpolate: false,
                intent: .defaultIntent)
        }

        /// Draws an image in sRGB.
        ///
        /// - Parameters:
        ///   - image: The image; what is transparent becomes black.
        ///   - name: What messages call it.
        /// - Throws: `PictureFileError.unreadable`, `PictureError`.
        init(_ image: CGImage, name: String) throws {
            let (width, height) = (image.width, image.height)
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                let context = CGContext(
                    data: nil, width: width, height: height, bitsPerComponent: 8,
                    bytesPerRow: width * 4, space: space,
                    bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { throw PictureFileError.unreadable(name) }
            context.interpolationQuality = .none
            context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
            guard let data = context.data else { throw PictureFileError.unreadable(name) }
            let row = context.bytesPerRow
            let bytes = UnsafeRawBufferPointer(start: data, count: row * height)
            var pixels: [UInt8] = []
            pixels.reserveCapacity(width * height * 3)
            // The bytes are the context's, which nothing else holds.
            withExtendedLifetime(context) {
                for y in 0..<height {
                    for x in 0..<width {
                        let place = y * row + x * 4
                        pixels.append(bytes[place])
                        pixels.append(bytes[place + 1])
                        pixels.append(bytes[place + 2])
                    }
                }
            }
            try self.init(width: width, height: height, pixels: pixels)
        }
    }
#endif
