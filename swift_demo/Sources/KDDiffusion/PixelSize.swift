/// Width and height of a picture in pixels.
public struct PixelSize: Sendable, Hashable, CustomStringConvertible {
    public let width: Int
    public let height: Int

    public init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }

    /// As in `512 x 768`.
    public var description: String { "\(width) x \(height)" }
}
