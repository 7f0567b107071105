import Foundation

/// Where the compiled form of a model comes from.
enum ModelSource: Sendable {
    /// It is compiled already.
    case compiled(URL)
    /// The cache has it, or compiles it.
    case package(URL, key: CompiledModelKey, cache: CompiledModelCache)

    /// Where it is; may take minutes the first time. Throws `CoreMLError`.
    func compiled() async throws -> URL {
        switch self {
        case .compiled(let url): url
        case .package(let url, let key, let cache): try await cache.compiled(url, key: key)
        }
    }

    /// Has a model that could not be loaded compiled again the next time; false where that would
    /// not help.
    func distrust() async -> Bool {
        guard case .package(_, let key, let cache) = self else { return false }
        return await cache.distrust(key)
    }
}
