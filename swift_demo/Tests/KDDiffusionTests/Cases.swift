import Foundation
import KDDiffusion
import KDNumerics

/// A picture that Python drew: an entry of `cases.json`, which `scripts/swift_cases.py` writes.
struct Case: Decodable {
    let name: String
    let bundle: String
    let request: Values
    let pictures: [String]

    struct Values: Decodable {
        let prompt: [String]
        let negative_prompt: [String]?
        let steps: Int?
        let guidance: Double?
        let seed: UInt64?
        let width: Int?
        let height: Int?
        let images_per_prompt: Int?
        let scheduler: String?
        let latents: Floats?
        let `init`: String?
        let strength: Double?
        let control: [String]?
        let control_scale: Double?
    }

    struct Floats: Decodable {
        let file: String
        let shape: [Int]
    }

    /// The request; `folder` holds its pictures.
    func request(in folder: URL) throws -> Request {
        var result = Request(prompts: request.prompt)
        result.negativePrompts = request.negative_prompt
        result.steps = request.steps
        result.guidance = request.guidance
        result.seed = request.seed
        result.width = request.width
        result.height = request.height
        result.imagesPerPrompt = request.images_per_prompt ?? 1
        result.scheduler = request.scheduler
        result.latents = try request.latents.map { latents in
            let data = try Data(contentsOf: folder.appendingPathComponent(latents.file))
            let values = [UInt8](data).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            return Tensor(shape: latents.shape, values: values)
        }
        result.initial = try request.`init`.map { try picture(folder.appendingPathComponent($0)) }
        result.strength = request.strength
        result.control = try (request.control ?? []).map {
            try picture(folder.appendingPathComponent($0))
        }
        result.controlScale = request.control_scale
        return result
    }
}

/// Reads a PPM file of 8-bit pixels, as Pillow writes it: a header of three lines.
func picture(_ file: URL) throws -> Picture {
    let data = [UInt8](try Data(contentsOf: file))
    let lines = data.split(
        separator: UInt8(ascii: "\n"), maxSplits: 3, omittingEmptySubsequences: false)
    let words = lines.prefix(3).map { String(decoding: $0, as: UTF8.self) }
    let sizes = words.count == 3 ? words[1].split(separator: " ").compactMap { Int($0) } : []
    guard sizes.count == 2, words[0] == "P6", words[2] == "255", lines.count == 4 else {
        throw Pipes.Failure(description: "'\(file.path)' is no PPM file.")
    }
    return try Picture(width: sizes[0], height: sizes[1], pixels: Array(lines[3]))
}

/// Writes a PPM file.
func write(_ picture: Picture, to file: URL) throws {
    let header = "P6\n\(picture.width) \(picture.height)\n255\n"
    try (Data(header.utf8) + Data(picture.pixels)).write(to: file)
}
