import Foundation
import KDDiffusion
import KDNumerics
import KDStudio
import XCTest

/// A folder that is deleted at the end of a test.
func temporaryFolder(_ test: XCTestCase) throws -> URL {
    let folder = FileManager.default.temporaryDirectory
        .appendingPathComponent("studio-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    test.addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
    return folder
}

/// What the manifest of a made-up bundle says.
struct BundleRecipe {
    var model = "someone/tiny"
    var height: Int? = 128
    var width: Int? = 128
    var sizes: [[Int]] = []
    var guidanceEmbedding: Int?
    var control = false
    var encoder = true
    var parameters = 1

    /// Writes a bundle whose models are no models; only the app's state reads it.
    @discardableResult
    func write(_ folder: URL) throws -> URL {
        let unet = Data(repeating: 7, count: 5000)
        let contents = [
            "Unet.mlpackage/Data/weight.bin": unet, "Unet.mlpackage/Manifest.json": Data("{}".utf8),
            "VAEDecoder.mlpackage/Data/weight.bin": Data(repeating: 1, count: 300),
        ]
        for (path, data) in contents {
            let file = folder.appendingPathComponent(path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try data.write(to: file)
        }
        let records = contents.sorted { $0.key < $1.key }.map { path, data in
            #"{"path": "\#(path)", "sha256": "\#(SHA256.hex(of: data))", "bytes": \#(data.count)}"#
        }
        try Data(manifest(records).utf8).write(to: folder.appendingPathComponent("manifest.json"))
        return folder
    }

    private func manifest(_ records: [String]) -> String {
        let shown = sizes.first ?? [height ?? 128, width ?? 128]
        return """
            {
              "schema_version": 1, "backend": "coreml", "family": "sd", "tools": {},
              "source": {"model": "\(model)", "random_weights": false, "licence": "apache-2.0"},
              "components": [\(components.joined(separator: ",\n"))],
              "text": [{
                "role": "text_encoder", "tokenizer": "tokenizer.json", "max_length": 32,
                "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "hidden_output": "out"
              }],
              "zero_negative": false,
              "latents": {
                "channels": 4, "factor": 8, "scaling_factor": 0.18215, "shift_factor": 0.0
              },
              "shapes": {
                "multiple": 64, "height": \(json(height)), "width": \(json(width)),
                "sizes": \(sizes)
              },
              "defaults": {
                "steps": 20, "guidance": 2.0, "height": \(shown[0]), "width": \(shown[1]),
                "scheduler": "default"
              },
              "samplers": [
                {
                  "name": "default", "scheduler": "PNDMScheduler", "file": "a.json",
                  "steps": \(Array(1...50)), "image": "a.image.json"
                },
                {"name": "fast", "scheduler": "LCMScheduler", "file": "b.json", "steps": [1, 4]}
              ],
              "files": [\(records.joined(separator: ",\n"))],
              "control": \(control ? #"{"scale": 1.0, "invert": false, "channels": 3}"# : "null"),
              "guidance_embedding": \(json(guidanceEmbedding)),
              "coreml": {
                "target": "iOS17", "compute_units": "all", "attention": "original", "rows": 2
              }
            }
            """
    }

    private var components: [String] {
        var models = [
            ("text_encoder", "TextEncoder"), ("unet", "Unet"), ("vae_decoder", "VAEDecoder"),
        ]
        if encoder { models.append(("vae_encoder", "VAEEncoder")) }
        if control { models.append(("controlnet", "ControlNet")) }
        return models.map { role, file in
            """
            {
              "role": "\(role)", "file": "\(file).mlpackage", "precision": "fp16",
              "parameters": \(parameters),
              "inputs": [{"name": "in", "dtype": "float16", "shape": [2, 4, 16, 16]}],
              "outputs": [{"name": "out", "dtype": "float32", "shape": [2, 4, 16, 16]}],
              "ports": {"in": "in", "out": "out"}
            }
            """
        }
    }

    private func json(_ value: Int?) -> String { value.map(String.init) ?? "null" }
}
