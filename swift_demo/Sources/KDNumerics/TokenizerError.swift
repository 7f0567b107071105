import Foundation

/// Why a tokenizer cannot be used.
public enum TokenizerError: Error, Equatable, Sendable {
    /// The file cannot be read, or is no tokenizer; the text says why.
    case unreadable(file: String, reason: String)
    /// The file describes a tokenizer that works in another way than CLIP's.
    case unsupported(file: String, part: String)
    /// The vocabulary lacks a special token of the manifest.
    case missingToken(file: String, name: String, id: Int)
    /// There is no room for the markers at both ends.
    case length(Int)
}

extension TokenizerError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .unreadable(let file, let reason):
            "'\(file)' is no tokenizer (\(reason)); export again."
        case .unsupported(let file, let part):
            "'\(file)' is no tokenizer of the kind that CLIP has: \(part); export a model with a "
                + "CLIP tokenizer."
        case .missingToken(let file, let name, let id):
            "'\(file)' has no token \(id), the \(name) of the manifest; export again."
        case .length(let length):
            "A prompt of \(length) tokens has no room for the markers at both ends; export again."
        }
    }
}
