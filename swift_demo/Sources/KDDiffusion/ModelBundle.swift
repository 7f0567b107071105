import Foundation
import KDNumerics

/// A folder that kdexport exported for Core ML.
///
/// Making one reads and checks the manifest and compares the sizes of all files with it; no model
/// is loaded. `verify` reads the files as well.
public struct ModelBundle: Sendable {
    /// Name of the manifest's file.
    public static let manifestName = "manifest.json"

    /// The folder.
    public let folder: URL
    /// Its description.
    public let manifest: Manifest

    /// Opens a bundle.
    ///
    /// A package may be left out where its compiled form lies beside it: `Unet.mlmodelc` instead of
    /// `Unet.mlpackage`.
    ///
    /// - Throws: `KDError`, where this is no bundle, its manifest is damaged, newer than this
    ///   package or not for Core ML, or where a file is missing or has another size.
    public init(folder: URL) throws {
        let manifest = try Manifest.read(folder)
        try manifest.check()
        self.folder = folder
        self.manifest = manifest
        try checkSizes()
    }

    /// Bytes of all files that the manifest lists.
    public var bytes: Int { manifest.files.reduce(0) { $0 + $1.bytes } }

    /// Where a file of the manifest is.
    public func url(_ path: String) -> URL {
        folder.appendingPathComponent(path)
    }

    /// Compares the SHA-256 of every file with the manifest.
    ///
    /// It reads every byte, so call it once after a bundle was copied, away from the main actor.
    ///
    /// - Parameter progress: Told of the share of the bytes read, 0 to 1, every few megabytes.
    /// - Throws: `KDError` naming the first file that differs or cannot be read;
    ///   `CancellationError` where the task was cancelled.
    public func verify(progress: @Sendable (Double) -> Void = { _ in }) throws {
        var seen = 0
        let total = max(bytes, 1)
        for record in manifest.files where !isReplaced(record.path) {
            let digest = try sha256(of: record.path) { count in
                seen += count
                progress(Double(seen) / Double(total))
            }
            guard digest == record.sha256 else { throw KDError.changedFile(record.path) }
        }
    }
}
