import Foundation

/// The parts of `tokenizer.json` that a CLIP tokenizer has, as they are stored.
struct TokenizerFile: Decodable {
    /// A token that is found in the text before the text is cut into words.
    struct AddedToken: Decodable {
        let id: Int
        let content: String
        let normalized: Bool
        let single_word: Bool
        let lstrip: Bool
        let rstrip: Bool
    }

    /// A pattern of a step: a regular expression, or a string as it is.
    struct Pattern: Decodable {
        let Regex: String?
    }

    /// One step of the normalizer or of the pre-tokenizer; which fields there are, `type` says.
    struct Step: Decodable {
        let type: String
        let normalizers: [Step]?
        let pretokenizers: [Step]?
        let pattern: Pattern?
        let content: String?
        let behavior: String?
        let invert: Bool?
        let add_prefix_space: Bool?
        let use_regex: Bool?
    }

    /// The vocabulary and the merges of byte pair encoding.
    struct Model: Decodable {
        let type: String?
        let dropout: Double?
        let unk_token: String?
        let continuing_subword_prefix: String?
        let end_of_word_suffix: String?
        let fuse_unk: Bool?
        let byte_fallback: Bool?
        let ignore_merges: Bool?
        let vocab: [String: Int]
        let merges: Merges
    }

    let added_tokens: [AddedToken]
    let normalizer: Step?
    let pre_tokenizer: Step?
    let decoder: Step?
    let model: Model
}

extension TokenizerFile {
    /// The merges, the most important first: pairs, or in older files strings with a space.
    struct Merges: Decodable {
        let pairs: [(String, String)]

        init(from decoder: any Decoder) throws {
            let values = try decoder.singleValueContainer()
            if let pairs = try? values.decode([[String]].self) {
                self.pairs = try pairs.map { try Self.pair($0, values) }
            } else {
                pairs = try values.decode([String].self).map {
                    try Self.pair($0.split(separator: " ").map(String.init), values)
                }
            }
        }

        private static func pair(
            _ parts: [String], _ values: any SingleValueDecodingContainer
        ) throws -> (String, String) {
            guard parts.count == 2 else {
                throw DecodingError.dataCorruptedError(
                    in: values, debugDescription: "a merge has \(parts.count) parts")
            }
            return (parts[0], parts[1])
        }
    }

    /// Reads a file; throws `TokenizerError` where that fails.
    static func read(_ file: URL) throws -> TokenizerFile {
        do {
            return try JSONDecoder().decode(TokenizerFile.self, from: Data(contentsOf: file))
        } catch {
            throw TokenizerError.unreadable(file: file.path, reason: reason(error))
        }
    }

    private static func reason(_ error: any Error) -> String {
        switch error as? DecodingError {
        case .keyNotFound(let key, _): "it lacks '\(key.stringValue)'"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "'\(context.codingPath.map(\.stringValue).joined(separator: "."))' has another type"
        case .dataCorrupted: "it is no valid JSON"
        default: error.localizedDescription
        }
    }
}
