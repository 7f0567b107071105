import Foundation
import KDDiffusion
import KDNumerics

/// What tells a compiled package from all others: the content that was compiled, as the manifest
/// records it. The version of the system is not in it; each has a folder of its own.
struct CompiledModelKey: Sendable, Hashable {
    /// The name of the compiled model in the cache.
    let name: String

    /// Takes the records of a package's files.
    ///
    /// - Parameters:
    ///   - package: The package, relative to the bundle.
    ///   - files: The files of the bundle, as the manifest lists them.
    /// - Throws: `CoreMLError.unrecorded` where none of them is in the package.
    init(package: String, files: [FileRecord]) throws {
        let inside = files.filter { $0.path.hasPrefix("\(package)/") }
        guard !inside.isEmpty else { throw CoreMLError.unrecorded(model: package) }
        // Not the package's own name: the same package in two bundles is compiled once.
        let lines = inside.map { "\($0.path.dropFirst(package.count + 1))\t\($0.sha256)" }.sorted()
        let digest = SHA256.hex(of: lines.joined(separator: "\n").utf8)
        let title = URL(fileURLWithPath: package).deletingPathExtension().lastPathComponent
        name = "\(title)-\(digest.prefix(24)).mlmodelc"
    }
}
