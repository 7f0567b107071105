import Foundation
import KDDiffusion
import KDStudio
import XCTest

final class BundleLibraryTests: XCTestCase {
    func testCopiesChecksListsAndRemoves() throws {
        let root = try temporaryFolder(self)
        let source = try BundleRecipe().write(root.appendingPathComponent("picked/my bundle"))
        try Data().write(to: source.appendingPathComponent(".DS_Store"))
        let library = BundleLibrary(folder: root.appendingPathComponent("library"))
        let told = Told()
        let first = try library.add(source) { told.add($0) }
        XCTAssertEqual(first.name, "my bundle")
        XCTAssertEqual(first.title, "tiny")
        XCTAssertNil(first.problem)
        XCTAssertEqual(told.values.first.map(isCopying), true)
        XCTAssertEqual(told.values.last, .checking(1))
        XCTAssertFalse(exists(first.folder.appendingPathComponent(".DS_Store")))
        let second = try library.add(source)
        XCTAssertEqual(second.name, "my bundle 2")
        XCTAssertEqual(library.entries().map(\.name), ["my bundle", "my bundle 2"])
        try library.remove(first)
        XCTAssertEqual(library.entries().map(\.id), [second.id])
        XCTAssertThrowsError(try library.remove(first))
    }

    func testRefusesWhatIsNoBundle() throws {
        let root = try temporaryFolder(self)
        let library = BundleLibrary(folder: root.appendingPathComponent("library"))
        XCTAssertThrowsError(try library.add(root)) {
            guard case KDError.notABundle = $0 else { return XCTFail("\($0)") }
        }
        XCTAssertEqual(library.entries().count, 0)
    }

    func testRefusesADamagedBundleAndLeavesNothing() throws {
        let root = try temporaryFolder(self)
        let source = try BundleRecipe().write(root.appendingPathComponent("bundle"))
        let file = "Unet.mlpackage/Data/weight.bin"
        try Data(repeating: 8, count: 5000).write(to: source.appendingPathComponent(file))
        let library = BundleLibrary(folder: root.appendingPathComponent("library"))
        XCTAssertThrowsError(try library.add(source)) {
            XCTAssertEqual($0 as? KDError, .changedFile(file))
        }
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: library.folder.path), [])
    }

    func testStopsWhereItIsCancelled() async throws {
        let root = try temporaryFolder(self)
        let source = try BundleRecipe().write(root.appendingPathComponent("bundle"))
        let library = BundleLibrary(folder: root.appendingPathComponent("library"))
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            return try library.add(source)
        }
        task.cancel()
        do {
            _ = try await task.value
            XCTFail("It was added.")
        } catch is CancellationError {}
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: library.folder.path), [])
    }

    func testKeepsWhatCannotBeUsedToBeRemoved() throws {
        let root = try temporaryFolder(self)
        let broken = root.appendingPathComponent("library/broken")
        try FileManager.default.createDirectory(at: broken, withIntermediateDirectories: true)
        let own = try BundleRecipe(model: "a/own").write(root.appendingPathComponent("own"))
        let library = BundleLibrary(
            folder: root.appendingPathComponent("library"), resources: [own])
        let entries = library.entries()
        XCTAssertEqual(entries.map(\.title), ["broken", "own"])
        XCTAssertEqual(entries.map { $0.problem == nil }, [false, true])
        try library.remove(entries[0])
        XCTAssertThrowsError(try library.remove(entries[1])) {
            XCTAssertEqual($0 as? LibraryError, .notRemovable("own"))
            XCTAssertTrue($0.localizedDescription.hasSuffix("."))
        }
    }

    func testFindsTheBundlesOfTheApp() throws {
        let root = try temporaryFolder(self)
        let own = try BundleRecipe().write(root.appendingPathComponent("Models/own"))
        let folder = root.appendingPathComponent("Models/no bundle")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let none = root.appendingPathComponent("none")
        let found = BundleLibrary.bundles(in: [root.appendingPathComponent("Models"), none])
        XCTAssertEqual(found.map(\.path), [own.path])
    }

    func testForgetsCopiesThatWereCutShort() throws {
        let root = try temporaryFolder(self)
        let rest = root.appendingPathComponent(".incoming-1")
        try FileManager.default.createDirectory(at: rest, withIntermediateDirectories: true)
        let library = BundleLibrary(folder: root)
        XCTAssertEqual(library.entries().count, 0)
        library.tidy()
        XCTAssertFalse(exists(rest))
    }

    private func exists(_ url: URL) -> Bool { FileManager.default.fileExists(atPath: url.path) }

    private func isCopying(_ progress: BundleLibrary.Progress) -> Bool {
        if case .copying = progress { true } else { false }
    }
}

/// What a copy told of its progress.
private final class Told: @unchecked Sendable {
    private let lock = NSLock()
    private var list: [BundleLibrary.Progress] = []

    func add(_ progress: BundleLibrary.Progress) { lock.withLock { list.append(progress) } }
    var values: [BundleLibrary.Progress] { lock.withLock { list } }
}
