/// A picture in 8-bit RGB.
public struct Picture: Sendable, Equatable {
    /// Pixels in a row.
    public let width: Int
    /// Rows of pixels.
    public let height: Int
    /// Red, green and blue of each pixel, row after row from the top: `height * width * 3` bytes.
    public let pixels: [UInt8]

    /// Makes a picture; throws `PictureError` where the bytes do not fill the size.
    public init(width: Int, height: Int, pixels: [UInt8]) throws {
        let (area, large) = width.multipliedReportingOverflow(by: height)
        guard width > 0, height > 0, !large, area < 1 << 48 else {
            throw PictureError.size(width: width, height: height)
        }
        guard pixels.count == area * 3 else {
            throw PictureError.bytes(pixels.count, width: width, height: height)
        }
        self.init(checked: width, height, pixels)
    }

    init(checked width: Int, _ height: Int, _ pixels: [UInt8]) {
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// The negative: 255 minus each byte. A ControlNet that wants it wants it before resizing.
    public func inverted() -> Picture {
        Picture(checked: width, height, pixels.map { 255 - $0 })
    }
}
