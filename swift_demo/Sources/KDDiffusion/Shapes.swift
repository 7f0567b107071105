/// Which sizes a bundle draws.
public struct Shapes: Sendable, Equatable {
    /// Width and height must be multiples of this many pixels.
    public let multiple: Int
    /// The only height in pixels, or nil where there are several.
    public let height: Int?
    /// The only width in pixels, or nil where there are several.
    public let width: Int?
    /// The only number of rows of the U-Net, or nil where a run is cut into what it takes.
    public let batch: Int?
    /// The only sizes where there are several, the default first; else empty.
    public let sizes: [PixelSize]
}

extension Shapes: Decodable {
    private enum Keys: String, CodingKey {
        case multiple, height, width, batch, sizes
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Keys.self)
        multiple = try values.decode(Int.self, forKey: .multiple)
        height = try values.decodeIfPresent(Int.self, forKey: .height)
        width = try values.decodeIfPresent(Int.self, forKey: .width)
        batch = try values.decodeIfPresent(Int.self, forKey: .batch)
        // Height comes first in the file.
        let pairs = try values.decodeIfPresent([[Int]].self, forKey: .sizes) ?? []
        sizes = try pairs.map { pair in
            guard pair.count == 2 else {
                throw DecodingError.dataCorruptedError(
                    forKey: Keys.sizes, in: values, debugDescription: "a size is no pair")
            }
            return PixelSize(width: pair[1], height: pair[0])
        }
    }
}
