import Foundation
import XCTest

@testable import KDDiffusion

final class ManifestTests: XCTestCase {
    func testABundleIsRead() throws {
        let bundle = try FakeBundle(for: self).open()
        XCTAssertEqual(bundle.manifest.family, .sd)
        XCTAssertEqual(bundle.manifest.component(.unet)?.inputs.map(\.name).first, "sample")
        XCTAssertEqual(bundle.manifest.shapes.height, 16)
        XCTAssertEqual(bundle.manifest.text[0].maxLength, 4)
        XCTAssertTrue(bundle.manifest.canStartFromPicture)
        let unet = try XCTUnwrap(bundle.manifest.component(.unet))
        XCTAssertEqual(bundle.manifest.bytes(of: unet), 4)
    }

    func testAFolderWithoutManifest() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("nothing-here")
        expect(KDError.notABundle(folder: "nothing-here")) { _ = try ModelBundle(folder: folder) }
    }

    func testWhatIsNoJSON() throws {
        expect(KDError.damagedManifest(place: "", reason: "it is no JSON")) {
            _ = try Manifest(json: Data("{".utf8))
        }
    }

    func testANewerSchemaComesBeforeWhatItLacks() throws {
        expect(KDError.newerSchema(found: 2, known: 1)) {
            _ = try Manifest(json: Data(#"{"schema_version": 2}"#.utf8))
        }
    }

    func testABundleForAnotherRuntime() throws {
        try refused(KDError.wrongBackend("onnx")) { $0.manifest["backend"] = "onnx" }
    }

    func testAMissingValueIsNamed() throws {
        try refused(KDError.damagedManifest(place: "latents.factor", reason: "it is missing")) {
            $0.set(["latents"], ["channels": 4])
        }
    }

    func testAnUnknownElementTypeIsNamed() throws {
        let place = "components[1].inputs[0].dtype"
        try refused(KDError.unknownElementType("float8", place: place)) { bundle in
            var unet = FakeBundle.unet
            unet["inputs"] = [["name": "sample", "dtype": "float8", "shape": [2]]]
            bundle.manifest["components"] = [FakeBundle.textEncoder, unet, FakeBundle.decoder]
        }
    }

    func testMissingParts() throws {
        try refused(KDError.missingComponent(.vaeDecoder)) {
            $0.manifest["components"] = [FakeBundle.textEncoder, FakeBundle.unet]
        }
        try refused(KDError.missingComponent(.textEncoder)) {
            $0.manifest["components"] = [FakeBundle.unet, FakeBundle.decoder]
        }
    }

    func testValuesThatCannotBe() throws {
        try refused(KDError.damagedManifest(place: "shapes.multiple", reason: "it is too small")) {
            $0.set(["shapes", "multiple"], 0)
        }
        let scheduler = "the bundle has no such sampler"
        try refused(KDError.damagedManifest(place: "defaults.scheduler", reason: scheduler)) {
            $0.set(["defaults", "scheduler"], "other")
        }
        let pooled = "no text encoder has a pooled output, which SDXL needs"
        try refused(KDError.damagedManifest(place: "text", reason: pooled)) {
            $0.manifest["family"] = "sdxl"
        }
    }

    func testAPathMayNotLeaveTheBundle() throws {
        for path in ["../secret", "/etc/passwd", "a/../../b", ""] {
            let reason = "the path '\(path)' leaves the bundle"
            try refused(KDError.damagedManifest(place: "files", reason: reason)) { bundle in
                var decoder = FakeBundle.decoder
                decoder["file"] = path
                bundle.manifest["components"] = [FakeBundle.textEncoder, FakeBundle.unet, decoder]
            }
        }
    }

    func testAMeaninglessOutput() throws {
        let reason = "'image' is missing"
        let error = KDError.damagedManifest(place: "components[2].ports", reason: reason)
        try refused(error) { bundle in
            var decoder = FakeBundle.decoder
            decoder["ports"] = ["z": "latent_sample"]
            bundle.manifest["components"] = [FakeBundle.textEncoder, FakeBundle.unet, decoder]
        }
    }

    private func refused(
        _ error: KDError, line: UInt = #line, _ change: (FakeBundle) -> Void
    ) throws {
        let bundle = try FakeBundle(for: self)
        change(bundle)
        expect(error, line: line) { _ = try bundle.open() }
    }
}
