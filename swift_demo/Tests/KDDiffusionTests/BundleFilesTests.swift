import Foundation
import XCTest

@testable import KDDiffusion

final class BundleFilesTests: XCTestCase {
    func testAMissingFile() throws {
        let fake = try FakeBundle(for: self)
        try fake.write()
        try remove(fake, "sampler.json")
        expect(KDError.missingFile("sampler.json")) { _ = try ModelBundle(folder: fake.folder) }
    }

    func testAShorterFile() throws {
        let fake = try FakeBundle(for: self)
        try fake.write()
        try Data("U".utf8).write(to: fake.folder.appendingPathComponent("Unet.mlpackage/model"))
        expect(KDError.wrongSize(file: "Unet.mlpackage/model", expected: 4, found: 1)) {
            _ = try ModelBundle(folder: fake.folder)
        }
    }

    func testACompiledModelStandsForItsPackage() throws {
        let fake = try FakeBundle(for: self)
        try fake.write()
        try remove(fake, "Unet.mlpackage")
        let compiled = fake.folder.appendingPathComponent("Unet.mlmodelc")
        try FileManager.default.createDirectory(at: compiled, withIntermediateDirectories: false)
        try ModelBundle(folder: fake.folder).verify()
    }

    func testVerifyReadsEveryByteAndSaysHowFarItIs() throws {
        let bundle = try FakeBundle(for: self).open()
        let shares = Shares()
        try bundle.verify { shares.add($0) }
        XCTAssertEqual(shares.all.last, 1)
        XCTAssertEqual(shares.all, shares.all.sorted())
        XCTAssertEqual(shares.all.count, bundle.manifest.files.count)
    }

    func testVerifyNamesAChangedFile() throws {
        let fake = try FakeBundle(for: self)
        let bundle = try fake.open()
        try Data("Onet".utf8).write(to: fake.folder.appendingPathComponent("Unet.mlpackage/model"))
        _ = try ModelBundle(folder: fake.folder)
        expect(KDError.changedFile("Unet.mlpackage/model")) { try bundle.verify() }
    }

    func testVerifyCanBeCancelled() async throws {
        let bundle = try FakeBundle(for: self).open()
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try bundle.verify()
        }
        do {
            try await task.value
            XCTFail("Nothing was thrown.")
        } catch {
            XCTAssertTrue(error is CancellationError)
        }
    }

    private func remove(_ fake: FakeBundle, _ path: String) throws {
        try FileManager.default.removeItem(at: fake.folder.appendingPathComponent(path))
    }
}

/// Collects what `verify` reports from one thread.
private final class Shares: @unchecked Sendable {
    private(set) var all: [Double] = []

    func add(_ share: Double) { all.append(share) }
}
