import Foundation
import XCTest

@testable import KDDiffusion

/// A bundle in a temporary folder, whose models are files of a few bytes.
///
/// Change `manifest` or the files, then `open` it.
final class FakeBundle {
    let folder: URL
    var manifest: [String: Any]
    private var files: [String: Data] = [:]

    /// Makes a bundle of a Stable Diffusion model with two U-Net rows that draws 16 x 16 pixels.
    ///
    /// The folder is removed when the test ends.
    init(for test: XCTestCase) throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("bundle-\(UUID().uuidString)")
        manifest = FakeBundle.stableDiffusion
        try add("tokenizer.json", json: FakeBundle.tokenizer)
        try add("sampler.json", json: FakeBundle.sampler)
        try add("sampler.image.json", json: FakeBundle.imageSampler)
        for name in ["Text", "Unet", "Decoder", "Encoder", "Text2", "Control"] {
            add("\(name).mlpackage/model", Data(name.utf8))
        }
        test.addTeardownBlock { [folder] in try? FileManager.default.removeItem(at: folder) }
    }

    func add(_ path: String, _ data: Data) {
        files[path] = data
    }

    func add(_ path: String, json: Any) throws {
        add(path, try JSONSerialization.data(withJSONObject: json))
    }

    /// Sets a value of the manifest by its path, such as `["shapes", "batch"]`.
    func set(_ path: [String], _ value: Any) {
        manifest = FakeBundle.setting(manifest, path[...], value)
    }

    /// Writes all files and the manifest.
    func write() throws {
        manifest["files"] = try files.sorted { $0.key < $1.key }.map { path, data in
            let url = folder.appendingPathComponent(path)
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try data.write(to: url)
            return ["path": path, "sha256": FakeBundle.hash(data), "bytes": data.count]
        }
        let json = try JSONSerialization.data(withJSONObject: manifest)
        try json.write(to: folder.appendingPathComponent(ModelBundle.manifestName))
    }

    /// Writes and opens it.
    func open() throws -> ModelBundle {
        try write()
        return try ModelBundle(folder: folder)
    }

    private static func setting(
        _ values: [String: Any], _ path: ArraySlice<String>, _ value: Any
    ) -> [String: Any] {
        var changed = values
        guard let key = path.first else { return values }
        if path.count == 1 {
            changed[key] = value
        } else {
            let inner = values[key] as? [String: Any] ?? [:]
            changed[key] = setting(inner, path.dropFirst(), value)
        }
        return changed
    }
}
