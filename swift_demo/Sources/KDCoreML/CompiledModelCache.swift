import Foundation

/// Keeps compiled packages, for Core ML loads nothing else and compiling takes long.
///
/// A compiled package lies in a folder of the version of the system that compiled it. Those of
/// other versions are removed when the cache is first used.
actor CompiledModelCache {
    /// Compiles a package and says where, in a folder that nobody else uses.
    typealias Compile = @Sendable (_ package: URL) async throws -> URL

    /// Where this version of the system has its compiled packages.
    nonisolated let folder: URL
    private let root: URL
    private let compile: Compile
    private var underWay: [CompiledModelKey: Task<URL, any Error>] = [:]
    private var compiledHere: Set<CompiledModelKey> = []
    private var isTidy = false

    /// Nothing is read or written yet.
    ///
    /// - Parameters:
    ///   - root: The folder of the cache; it is made when it is needed.
    ///   - system: The version of the system, in words.
    ///   - compile: What compiles.
    init(root: URL, system: String, compile: @escaping Compile) {
        self.root = root
        self.compile = compile
        let letters = system.unicodeScalars.map { scalar in
            CharacterSet.alphanumerics.contains(scalar) && scalar.isASCII ? Character(scalar) : "-"
        }
        folder = root.appendingPathComponent(
            Self.systemPrefix + String(letters), isDirectory: true)
    }

    /// The compiled form of a package, compiled now where the cache does not have it.
    ///
    /// Callers that come while it is being compiled wait for the same result. A caller that is
    /// cancelled stops waiting only when the compilation is done: Core ML cannot be interrupted.
    ///
    /// - Throws: `CoreMLError.notCompiled` or `.notCached`.
    func compiled(_ package: URL, key: CompiledModelKey) async throws -> URL {
        tidy()
        let target = folder.appendingPathComponent(key.name, isDirectory: true)
        if let task = underWay[key] { return try await task.value }
        if FileManager.default.fileExists(atPath: target.path) { return target }
        let task = Task { [compile] in
            let made: URL
            do { made = try await compile(package) } catch {
                throw CoreMLError.notCompiled(
                    model: package.lastPathComponent, reason: error.localizedDescription)
            }
            return try Self.keep(made, at: target, model: package.lastPathComponent)
        }
        underWay[key] = task
        defer { underWay[key] = nil }
        let place = try await task.value
        compiledHere.insert(key)
        return place
    }

    /// Removes a compiled package.
    func discard(_ key: CompiledModelKey) {
        compiledHere.remove(key)
        try? FileManager.default.removeItem(at: folder.appendingPathComponent(key.name))
    }

    /// Removes a compiled package that Core ML cannot load: parts of it may be gone.
    ///
    /// - Returns: Whether compiling it again may help, so false for what this process compiled.
    func distrust(_ key: CompiledModelKey) -> Bool {
        if compiledHere.contains(key) { return false }
        discard(key)
        return true
    }

    /// Removes everything.
    func removeAll() {
        compiledHere = []
        try? FileManager.default.removeItem(at: root)
    }

    /// Moves what was compiled to its place, whole or not at all.
    private static func keep(_ made: URL, at target: URL, model: String) throws -> URL {
        let files = FileManager.default
        let parent = target.deletingLastPathComponent()
        let staging = parent.appendingPathComponent(stagingPrefix + UUID().uuidString)
        defer {
            try? files.removeItem(at: made)
            try? files.removeItem(at: staging)
        }
        do {
            try files.createDirectory(at: parent, withIntermediateDirectories: true)
            // The first move may be a copy from another volume, the second one is not.
            try files.moveItem(at: made, to: staging)
            try files.moveItem(at: staging, to: target)
        } catch {
            // Another process may have been faster; what it made is as good.
            guard files.fileExists(atPath: target.path) else {
                throw CoreMLError.notCached(model: model, reason: error.localizedDescription)
            }
        }
        return target
    }

    /// Removes what other versions of the system compiled, and what was left half done.
    private func tidy() {
        if isTidy { return }
        isTidy = true
        let files = FileManager.default
        for name in (try? files.contentsOfDirectory(atPath: root.path)) ?? []
        where name.hasPrefix(Self.systemPrefix) && name != folder.lastPathComponent {
            try? files.removeItem(at: root.appendingPathComponent(name))
        }
        for name in (try? files.contentsOfDirectory(atPath: folder.path)) ?? []
        where name.hasPrefix(Self.stagingPrefix) {
            let path = folder.appendingPathComponent(name).path
            let changed = (try? files.attributesOfItem(atPath: path))?[.modificationDate] as? Date
            // A younger one may be the work of another process.
            if let changed, Date().timeIntervalSince(changed) > 24 * 3600 {
                try? files.removeItem(atPath: path)
            }
        }
    }

    private static let systemPrefix = "system-"
    private static let stagingPrefix = "incoming-"
}
