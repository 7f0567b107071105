import Foundation
import KDCoreML

/// What the command line asks for.
struct Arguments: Equatable {
    /// The bundle's folder.
    var bundle = URL(fileURLWithPath: ".")
    var prompt = ""
    var output = URL(fileURLWithPath: "image.png")
    var negative: String?
    var steps: Int?
    var guidance: Double?
    var seed: UInt64?
    var scheduler: String?
    var height: Int?
    var width: Int?
    var initial: URL?
    var strength: Double?
    var control: URL?
    var controlScale: Double?
    var images = 1
    var reducedMemory = false
    var computeUnits: ComputeUnits?
    var previews: URL?
    var check = false

    /// Reads the words after the program's name.
    ///
    /// - Throws: `UsageError`.
    init(_ words: [String]) throws {
        var reader = WordReader(words)
        while let option = try reader.nextOption() {
            try take(option, from: &reader)
        }
        let places = reader.places
        guard places.count >= 2 else {
            throw UsageError.missing(places.isEmpty ? "BUNDLE" : "PROMPT")
        }
        guard places.count == 2 else { throw UsageError.surplus(places[2]) }
        bundle = URL(fileURLWithPath: places[0], isDirectory: true)
        prompt = places[1]
    }

    private mutating func take(_ option: String, from reader: inout WordReader) throws {
        switch option {
        case "-o", "--output": output = try reader.file()
        case "--negative": negative = try reader.text()
        case "--steps": steps = try reader.number()
        case "--guidance": guidance = try reader.number()
        case "--seed": seed = try reader.number()
        case "--scheduler": scheduler = try reader.text()
        case "--size":
            height = try reader.number()
            width = try reader.number()
        case "--init": initial = try reader.file()
        case "--strength": strength = try reader.number()
        case "--control": control = try reader.file()
        case "--control-scale": controlScale = try reader.number()
        case "--images": images = try reader.number()
        case "--reduced-memory": reducedMemory = try reader.flag()
        case "--compute-units": computeUnits = try reader.choice()
        case "--previews": previews = try reader.file()
        case "--check": check = try reader.flag()
        case "-h", "--help": throw UsageError.help
        default: throw UsageError.unknown(option)
        }
    }
}
