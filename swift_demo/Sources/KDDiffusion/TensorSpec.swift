/// One input or output of a model.
public struct TensorSpec: Sendable, Equatable, Decodable {
    public let name: String
    /// The type of its elements in the package.
    public let dtype: ElementType
    public let shape: [Dimension]

    public init(name: String, dtype: ElementType, shape: [Dimension]) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
    }

    /// Whether a tensor of these sizes fits.
    public func fits(_ sizes: [Int]) -> Bool {
        sizes.count == shape.count && zip(shape, sizes).allSatisfy { $0.fits($1) }
    }
}

/// The type of a tensor's elements in a package.
public enum ElementType: String, Sendable {
    case float32, float16, int32, int64, bool
}

extension ElementType: Decodable {
    /// Throws `KDError.unknownElementType` where the manifest names another one.
    public init(from decoder: any Decoder) throws {
        let name = try decoder.singleValueContainer().decode(String.self)
        guard let type = ElementType(rawValue: name) else {
            throw KDError.unknownElementType(name, place: decoder.codingPath.place)
        }
        self = type
    }
}

/// The size of one dimension: a number, or a name where a package takes several.
public enum Dimension: Sendable, Equatable, CustomStringConvertible {
    case fixed(Int)
    case named(String)

    /// The number, or nil where there are several.
    public var size: Int? {
        if case .fixed(let size) = self { size } else { nil }
    }

    public var description: String {
        switch self {
        case .fixed(let size): String(size)
        case .named(let name): name
        }
    }

    func fits(_ value: Int) -> Bool { size == nil || size == value }
}

extension Dimension: Decodable {
    public init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let size = try? value.decode(Int.self) {
            self = .fixed(size)
        } else {
            self = .named(try value.decode(String.self))
        }
    }
}

extension Array where Element == any CodingKey {
    /// A path in a JSON file in words, such as `components[0].file`.
    var place: String {
        reduce("") { path, key in
            if let index = key.intValue { return "\(path)[\(index)]" }
            return path.isEmpty ? key.stringValue : "\(path).\(key.stringValue)"
        }
    }
}
