import CoreML
import Foundation
import KDDiffusion

/// The packages that were compiled on this system, which take about as much space as the bundles.
public struct CompiledModels: Sendable {
    let cache: CompiledModelCache

    /// Nothing is read yet.
    ///
    /// - Parameter folder: Where they are kept; nil for a folder in the app's caches.
    /// - Throws: An error of the system where it has no folder for caches.
    public init(folder: URL? = nil) throws {
        let root = try folder
            ?? FileManager.default
            .url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
            .appendingPathComponent("kdexport-compiled", isDirectory: true)
        cache = KnownCaches.all.cache(root) {
            let system = ProcessInfo.processInfo.operatingSystemVersionString
            return CompiledModelCache(root: root, system: system) { package in
                try await MLModel.compileModel(at: package)
            }
        }
    }

    /// Removes what was compiled for a bundle, before the bundle is deleted.
    public func remove(_ manifest: Manifest) async {
        for file in manifest.components.flatMap(\.files) {
            guard let key = try? CompiledModelKey(package: file, files: manifest.files) else {
                continue
            }
            await cache.discard(key)
        }
    }

    /// Removes everything.
    public func removeAll() async { await cache.removeAll() }
}

/// One cache for each folder, so that two engines compile a package once.
private final class KnownCaches: @unchecked Sendable {
    static let all = KnownCaches()

    // Guards `caches`.
    private let lock = NSLock()
    private var caches: [String: CompiledModelCache] = [:]

    func cache(_ root: URL, make: () -> CompiledModelCache) -> CompiledModelCache {
        lock.withLock {
            let path = root.standardizedFileURL.path
            let cache = caches[path] ?? make()
            caches[path] = cache
            return cache
        }
    }
}
