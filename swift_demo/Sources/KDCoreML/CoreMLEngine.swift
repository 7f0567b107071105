import CoreML
import Foundation
import KDDiffusion

/// Core ML as what runs the models of one bundle.
///
/// ```swift
/// let bundle = try ModelBundle(folder: folder)
/// let engine = try CoreMLEngine(bundle: bundle)
/// let pipeline = try DiffusionPipeline(bundle: bundle, engine: engine)
/// ```
public struct CoreMLEngine: ModelEngine {
    /// How models are run.
    public struct Options: Sendable, Equatable {
        /// What models run on; nil for what the bundle was made for.
        public var computeUnits: ComputeUnits?
        /// What single models run on, where that differs.
        public var unitsByRole: [Component.Role: ComputeUnits]
        /// Where compiled packages are kept; nil for a folder in the app's caches, which the system
        /// may empty while the app does not run.
        public var cacheFolder: URL?

        public init(
            computeUnits: ComputeUnits? = nil,
            unitsByRole: [Component.Role: ComputeUnits] = [:],
            cacheFolder: URL? = nil
        ) {
            self.computeUnits = computeUnits
            self.unitsByRole = unitsByRole
            self.cacheFolder = cacheFolder
        }
    }

    /// Whether this system has Core ML.
    public static var isAvailable: Bool {
        #if canImport(Darwin)
            true
        #else
            false
        #endif
    }

    /// What models run on where `unitsByRole` has nothing else.
    public let units: ComputeUnits

    private let options: Options
    private let folder: URL
    private let files: [FileRecord]
    private let cache: CompiledModelCache

    /// Prepares to run the models of a bundle; nothing is compiled or loaded.
    ///
    /// - Throws: `CoreMLError.unavailable` on other systems than Apple's, `.unknownUnits` where the
    ///   manifest names other compute units than Core ML has; an error of the system where it has
    ///   no folder for caches.
    public init(bundle: ModelBundle, options: Options = Options()) throws {
        guard Self.isAvailable else { throw CoreMLError.unavailable }
        self.options = options
        units = try options.computeUnits ?? Self.recommendedUnits(bundle.manifest)
        folder = bundle.folder
        files = bundle.manifest.files
        cache = try CompiledModels(folder: options.cacheFolder).cache
    }

    public func runner(for file: URL, component: Component) throws -> any ModelRunner {
        let units = options.unitsByRole[component.role] ?? units
        let there = FileManager.default.fileExists(atPath: file.path)
        if file.pathExtension == "mlpackage", there {
            let key = try CompiledModelKey(package: relativePath(file), files: files)
            let source = ModelSource.package(file, key: key, cache: cache)
            return CoreMLRunner(file: file, source: source, units: units)
        }
        let compiled = file.deletingPathExtension().appendingPathExtension("mlmodelc")
        guard FileManager.default.fileExists(atPath: compiled.path) else {
            throw CoreMLError.noModel(file.lastPathComponent)
        }
        return CoreMLRunner(file: compiled, source: .compiled(compiled), units: units)
    }

    /// The compute units that a bundle was made for.
    static func recommendedUnits(_ manifest: Manifest) throws -> ComputeUnits {
        guard let name = manifest.coreml?.computeUnits else { return .all }
        guard let units = ComputeUnits(rawValue: name) else {
            throw CoreMLError.unknownUnits(name)
        }
        return units
    }

    private func relativePath(_ file: URL) -> String {
        let parts = file.standardizedFileURL.pathComponents
        let start = folder.standardizedFileURL.pathComponents
        guard parts.starts(with: start) else { return file.lastPathComponent }
        return parts.dropFirst(start.count).joined(separator: "/")
    }
}
