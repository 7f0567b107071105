import Foundation
import KDDiffusion

/// A bundle that the app has, usable or not.
public struct BundleEntry: Sendable, Identifiable {
    /// Where a bundle came from.
    public enum Origin: Sendable, Equatable {
        /// The user brought it; it can be removed.
        case imported
        /// It is part of the app.
        case resource
    }

    /// Its folder's name, which no other bundle of the same origin has.
    public let name: String
    /// Its folder.
    public let folder: URL
    /// Where it came from.
    public let origin: Origin
    /// The bundle, or why it cannot be used.
    public let bundle: Result<ModelBundle, any Error>

    public var id: String { "\(origin)/\(name)" }

    /// The model's name, without the owner; the folder's name where the bundle cannot be read.
    public var title: String {
        guard let model = (try? bundle.get())?.manifest.source.model else { return name }
        return model.split(separator: "/").last.map(String.init) ?? model
    }

    /// Why it cannot be used, or nil.
    public var problem: String? {
        if case .failure(let error) = bundle { error.localizedDescription } else { nil }
    }

    /// Reads a folder's manifest and checks its files' sizes.
    init(folder: URL, origin: Origin) {
        name = folder.lastPathComponent
        self.folder = folder
        self.origin = origin
        bundle = Result { try ModelBundle(folder: folder) }
    }
}
