/// The starts of a compiled scheduler, for image to image.
///
/// It is the contents of a bundle's `samplers/NAME.image.json`; the tables that the starts refer to
/// are those of the `Sampler` of the same name.
public struct ImageSampler: Sendable {
    /// The name that a request chooses it by.
    public let name: String

    private let starts: [Int: [ImageStart?]]

    /// The run that leaves out the first steps of a schedule.
    ///
    /// - Parameters:
    ///   - steps: Steps of the whole schedule.
    ///   - first: How many of them to leave out.
    /// - Throws: `SamplerError` where there is no such run.
    public func start(steps: Int, first: Int) throws -> ImageStart {
        guard let row = starts[steps], row.indices.contains(first), let start = row[first] else {
            throw SamplerError.start(first + 1, of: steps, scheduler: name)
        }
        return start
    }
}

extension ImageSampler: Decodable {
    private enum Key: String, CodingKey {
        case name, starts
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        name = try values.decode(String.self, forKey: .name)
        starts = try values.decode([Int: [ImageStart?]].self, forKey: .starts)
    }
}
