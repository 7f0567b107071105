import Foundation
import KDDiffusion
import XCTest

@testable import KDCoreML

final class CompiledModelCacheTests: XCTestCase {
    private var root = FileManager.default.temporaryDirectory

    override func setUp() {
        root = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    }

    override func tearDown() {
        try? FileManager.default.removeItem(at: root)
    }

    func testCompilesOnceForTwoCallers() async throws {
        let compiler = Compiler(delay: .milliseconds(50))
        let cache = cache(compiler)
        let key = try key()
        async let first = cache.compiled(package, key: key)
        async let second = cache.compiled(package, key: key)
        let places = try await [first, second]
        XCTAssertEqual(places[0], places[1])
        XCTAssertEqual(try Data(contentsOf: places[0].appendingPathComponent("m")), Data("1".utf8))
        _ = try await self.cache(compiler).compiled(package, key: key)
        let count = await compiler.count
        XCTAssertEqual(count, 1)
        XCTAssertEqual(try names(cache.folder), [key.name])
    }

    func testCompilesAgainAfterDiscarding() async throws {
        let compiler = Compiler()
        let cache = cache(compiler)
        let key = try key()
        _ = try await cache.compiled(package, key: key)
        await cache.discard(key)
        XCTAssertEqual(try names(cache.folder), [])
        _ = try await cache.compiled(package, key: key)
        let count = await compiler.count
        XCTAssertEqual(count, 2)
    }

    func testDistrustsWhatAnotherProcessCompiled() async throws {
        let cache = cache(Compiler())
        let key = try key()
        let place = try await cache.compiled(package, key: key)
        let helps = await cache.distrust(key)
        XCTAssertFalse(helps)
        XCTAssertTrue(FileManager.default.fileExists(atPath: place.path))
        // Another cache stands for another process.
        let helpsThere = await self.cache(Compiler()).distrust(key)
        XCTAssertTrue(helpsThere)
        XCTAssertFalse(FileManager.default.fileExists(atPath: place.path))
    }

    func testRemovesWhatOtherSystemsCompiled() async throws {
        let old = cache(Compiler(), system: "Version 17.0 (Build 1)")
        _ = try await old.compiled(package, key: key())
        try FileManager.default.createDirectory(
            at: root.appendingPathComponent("other"), withIntermediateDirectories: true)
        let new = cache(Compiler(), system: "Version 17.1 (Build 2)")
        _ = try await new.compiled(package, key: key())
        XCTAssertEqual(try names(root), ["other", "system-Version-17-1--Build-2-"])
    }

    func testLeavesNothingWhereCompilingFails() async throws {
        let cache = cache(Compiler(fails: true))
        do {
            _ = try await cache.compiled(package, key: key())
            XCTFail("It compiled.")
        } catch {
            XCTAssertEqual(
                error as? CoreMLError,
                .notCompiled(
                    model: "Unet.mlpackage", reason: Compiler.Failure().localizedDescription))
        }
        XCTAssertFalse(FileManager.default.fileExists(atPath: cache.folder.path))
    }

    func testSaysWhereItCannotStore() async throws {
        try Data().write(to: root)
        do {
            _ = try await cache(Compiler()).compiled(package, key: key())
            XCTFail("It stored.")
        } catch CoreMLError.notCached(let model, _) {
            XCTAssertEqual(model, "Unet.mlpackage")
        }
    }

    func testRemovesEverything() async throws {
        let cache = cache(Compiler())
        _ = try await cache.compiled(package, key: key())
        await cache.removeAll()
        XCTAssertFalse(FileManager.default.fileExists(atPath: root.path))
    }

    func testKeysFollowTheContent() throws {
        let key = try key()
        XCTAssertTrue(key.name.hasPrefix("Unet-") && key.name.hasSuffix(".mlmodelc"), key.name)
        XCTAssertNotEqual(key, try self.key(weights: "bb"))
        let elsewhere = try CompiledModelKey(package: "b/Unet.mlpackage", files: [
            record("b/Unet.mlpackage/w", "aa"), record("b/Unet.mlpackage/m", "cc"),
        ])
        XCTAssertEqual(key, elsewhere)
        XCTAssertThrowsError(try CompiledModelKey(package: "No.mlpackage", files: [])) {
            XCTAssertEqual($0 as? CoreMLError, .unrecorded(model: "No.mlpackage"))
        }
    }

    private func key(weights: String = "aa") throws -> CompiledModelKey {
        try CompiledModelKey(package: "Unet.mlpackage", files: [
            record("Unet.mlpackage/m", "cc"), record("Unet.mlpackage/w", weights),
            record("Unet.mlpackage2/m", "dd"), record("vocab.json", "ee"),
        ])
    }

    private func cache(
        _ compiler: Compiler, system: String = "Version 17.0"
    ) -> CompiledModelCache {
        CompiledModelCache(root: root, system: system) { try await compiler.compile($0) }
    }

    private func record(_ path: String, _ hash: String) throws -> FileRecord {
        let json = #"{"path": "\#(path)", "sha256": "\#(hash)", "bytes": 1}"#
        return try JSONDecoder().decode(FileRecord.self, from: Data(json.utf8))
    }

    private func names(_ folder: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    }
}

private let package = URL(fileURLWithPath: "/bundle/Unet.mlpackage")

/// Stands in for Core ML's compiler.
private actor Compiler {
    struct Failure: Error {}

    private(set) var count = 0
    private let delay: Duration
    private let fails: Bool

    init(delay: Duration = .zero, fails: Bool = false) {
        self.delay = delay
        self.fails = fails
    }

    func compile(_ package: URL) async throws -> URL {
        count += 1
        let number = count
        if fails { throw Failure() }
        try await Task.sleep(for: delay)
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("\(UUID().uuidString).mlmodelc")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data("\(number)".utf8).write(to: folder.appendingPathComponent("m"))
        return folder
    }
}
