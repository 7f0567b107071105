import Foundation
import KDDiffusion

/// The bundles that the app has: those that the user brought, and those that are part of it.
public struct BundleLibrary: Sendable {
    /// How far bringing in a bundle has got.
    public enum Progress: Sendable, Equatable {
        /// Its files are copied: the share of the bytes, 0 to 1.
        case copying(Double)
        /// The SHA-256 of every file is compared with the manifest: the share of the bytes.
        case checking(Double)
    }

    /// Where the bundles lie that the user brought.
    public let folder: URL
    /// Folders of the bundles that are part of the app.
    public let resources: [URL]

    /// Nothing is read yet.
    public init(folder: URL, resources: [URL] = []) {
        self.folder = folder
        self.resources = resources
    }

    /// The folders inside of some folders that hold a manifest, for `resources`; by name.
    public static func bundles(in folders: [URL]) -> [URL] {
        let files = FileManager.default
        return folders.flatMap { folder in
            let names = (try? files.contentsOfDirectory(atPath: folder.path)) ?? []
            return names.sorted().map { folder.appendingPathComponent($0, isDirectory: true) }
        }
        .filter {
            files.fileExists(atPath: $0.appendingPathComponent(ModelBundle.manifestName).path)
        }
    }

    /// All bundles by title, those that cannot be used included.
    public func entries() -> [BundleEntry] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        let imported = names.filter { !$0.hasPrefix(".") }.map {
            BundleEntry(folder: folder.appendingPathComponent($0), origin: .imported)
        }
        let own = resources.map { BundleEntry(folder: $0, origin: .resource) }
        return (own + imported).sorted {
            ($0.title.lowercased(), $0.id) < ($1.title.lowercased(), $1.id)
        }
    }

    /// Copies a bundle into the library and checks every byte of the copy.
    ///
    /// It works on the caller's thread, so call it away from the main actor. A folder of the same
    /// name is kept: the new one gets a number.
    ///
    /// - Parameters:
    ///   - source: The bundle's folder, such as one that the user picked.
    ///   - progress: Told now and then how far it has got.
    /// - Returns: The entry.
    /// - Throws: `KDError` where it is no bundle or a file is damaged, `LibraryError`,
    ///   `CancellationError`. Nothing is left of it then.
    public func add(
        _ source: URL, progress: @Sendable (Progress) -> Void = { _ in }
    ) throws -> BundleEntry {
        let access = ScopedAccess(source)
        defer { access.end() }
        // Refuses what is no bundle before anything is copied.
        let found = try ModelBundle(folder: source)
        try requireSpace(found.bytes)
        let staging = folder.appendingPathComponent(".incoming-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: staging) }
        try FolderCopy(from: source, to: staging).run { progress(.copying($0)) }
        let copy = try ModelBundle(folder: staging)
        try copy.verify { progress(.checking($0)) }
        let target = freeName(source.lastPathComponent)
        do {
            try FileManager.default.moveItem(at: staging, to: target)
        } catch {
            throw LibraryError.notCopied(
                file: target.lastPathComponent, reason: error.localizedDescription)
        }
        leaveOutOfBackups(target)
        return BundleEntry(folder: target, origin: .imported)
    }

    /// Deletes a bundle that the user brought; throws `LibraryError`.
    public func remove(_ entry: BundleEntry) throws {
        guard entry.origin == .imported else { throw LibraryError.notRemovable(entry.title) }
        do {
            try FileManager.default.removeItem(at: entry.folder)
        } catch {
            throw LibraryError.notRemoved(entry.title, reason: error.localizedDescription)
        }
    }

    /// Deletes what copies that were cut short have left; call it when no bundle is being added.
    public func tidy() {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        for name in names where name.hasPrefix(".incoming-") {
            try? FileManager.default.removeItem(at: folder.appendingPathComponent(name))
        }
    }

    private func requireSpace(_ needed: Int) throws {
        try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let values = try? FileManager.default.attributesOfFileSystem(forPath: folder.path)
        guard let free = (values?[.systemFreeSize] as? NSNumber)?.intValue else { return }
        guard free > needed else { throw LibraryError.noSpace(needed: needed, free: free) }
    }

    /// Models are large, and can be had again.
    private func leaveOutOfBackups(_ folder: URL) {
        #if canImport(Darwin)
            var folder = folder
            var values = URLResourceValues()
            values.isExcludedFromBackup = true
            try? folder.setResourceValues(values)
        #endif
    }

    private func freeName(_ wanted: String) -> URL {
        let name = wanted.hasPrefix(".") || wanted.isEmpty ? "model" : wanted
        var target = folder.appendingPathComponent(name)
        var number = 2
        while FileManager.default.fileExists(atPath: target.path) {
            target = folder.appendingPathComponent("\(name) \(number)")
            number += 1
        }
        return target
    }
}
