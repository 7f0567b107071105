/// A compiled scheduler: its tables by number of steps, and where they came from.
///
/// It is the contents of a bundle's `samplers/NAME.json`.
public struct Sampler: Sendable {
    /// The name that a request chooses it by.
    public let name: String
    /// Class name of the diffusers scheduler.
    public let scheduler: String

    private let tables: [Int: SamplerTable]

    /// The numbers of steps that there are tables for, in ascending order.
    public var steps: [Int] { tables.keys.sorted() }

    /// The table for a number of steps; throws `SamplerError` naming the numbers that there are.
    public func table(steps: Int) throws -> SamplerTable {
        guard let table = tables[steps] else {
            throw SamplerError.steps(steps, scheduler: name, available: self.steps)
        }
        return table
    }
}

extension Sampler: Decodable {
    private enum Key: String, CodingKey {
        case name, scheduler, tables
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        name = try values.decode(String.self, forKey: .name)
        scheduler = try values.decode(String.self, forKey: .scheduler)
        tables = try values.decode([Int: SamplerTable].self, forKey: .tables)
    }
}
