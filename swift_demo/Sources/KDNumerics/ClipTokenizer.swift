import Foundation

/// A prompt as token ids.
public struct Tokens: Sendable, Equatable {
    /// As many as the text encoder reads: start marker, text, end marker, padding.
    public let ids: [Int]
    /// The text that did not fit; empty where all of it did.
    public let removed: String
}

/// Gives the ids of transformers' `CLIPTokenizer(padding="max_length", truncation=True)`.
public struct ClipTokenizer: Sendable {
    /// Tokens per prompt, the markers at both ends included.
    public let maxLength: Int

    private let bos: Int
    private let eos: Int
    private let pad: Int
    private let raw: AddedTokens
    private let normalized: AddedTokens
    private let words: ClipWords
    private let pairs: BytePairs
    private let names: [Int: String]

    /// Reads a tokenizer.
    ///
    /// - Parameters:
    ///   - file: The `tokenizer.json` of a bundle.
    ///   - maxLength: Tokens per prompt, the markers at both ends included; at least 2.
    ///   - bos: Id of the marker at the start.
    ///   - eos: Id of the marker at the end.
    ///   - pad: Id that fills up to `maxLength`.
    /// - Throws: `TokenizerError` where the file cannot be read, describes another kind of
    ///   tokenizer, or lacks one of the special tokens.
    public init(file: URL, maxLength: Int, bos: Int, eos: Int, pad: Int) throws {
        guard maxLength >= 2 else { throw TokenizerError.length(maxLength) }
        let stored = try TokenizerFile.read(file)
        let kind = try TokenizerKind(stored, file: file.path)
        var names = Dictionary(stored.model.vocab.map { ($1, $0) }, uniquingKeysWith: min)
        for token in stored.added_tokens { names[token.id] = token.content }
        for (name, id) in [("bos_token_id", bos), ("eos_token_id", eos), ("pad_token_id", pad)]
        where names[id] == nil {
            throw TokenizerError.missingToken(file: file.path, name: name, id: id)
        }
        (self.maxLength, self.bos, self.eos, self.pad) = (maxLength, bos, eos, pad)
        self.names = names
        raw = AddedTokens(
            stored.added_tokens.filter { !$0.normalized }.map {
                (Array($0.content.unicodeScalars), $0.id)
            })
        normalized = AddedTokens(
            stored.added_tokens.filter(\.normalized).map {
                (ClipText.normalized($0.content.unicodeScalars), $0.id)
            })
        words = ClipWords(literals: kind.literals)
        pairs = try BytePairs(stored.model, file: file.path)
    }

    /// Encodes a prompt, cut to the length that the text encoder reads.
    public func encode(_ text: String) -> Tokens {
        let all = tokens(text)
        let room = maxLength - 2
        let row = [bos] + all.prefix(room) + [eos]
        let padding = Array(repeating: pad, count: maxLength - row.count)
        return Tokens(ids: row + padding, removed: decode(all.dropFirst(room)))
    }

    /// The tokens of a text of any length, without markers.
    func tokens(_ text: String) -> [Int] {
        raw.parts(Array(text.unicodeScalars)[...]).flatMap { part in
            switch part {
            case .token(let id): [id]
            case .text(let text): normalizedTokens(text)
            }
        }
    }

    private func normalizedTokens(_ text: ArraySlice<Unicode.Scalar>) -> [Int] {
        normalized.parts(ClipText.normalized(text)[...]).flatMap { part in
            switch part {
            case .token(let id): [id]
            case .text(let text):
                words.words(text).flatMap { word in pairs.tokens(Self.bytes(word)) }
            }
        }
    }

    private static func bytes(_ word: ArraySlice<Unicode.Scalar>) -> [UInt8] {
        word.flatMap { UTF8.encode($0) ?? Unicode.UTF8.encodedReplacementCharacter }
    }

    /// Text again, as transformers decodes it: the end of a word is part of CLIP's tokens.
    private func decode(_ ids: some Sequence<Int>) -> String {
        let bytes = ids.flatMap { ByteSymbols.bytes(of: names[$0] ?? "") }
        let text = String(decoding: Self.spaced(bytes), as: UTF8.self)
        var scalars = text.unicodeScalars[...]
        while let first = scalars.first, Self.isStripped(first) { scalars.removeFirst() }
        while let last = scalars.last, Self.isStripped(last) { scalars.removeLast() }
        return String(scalars)
    }

    /// A space for every mark of a word's end.
    private static func spaced(_ bytes: [UInt8]) -> [UInt8] {
        let mark = Array("</w>".utf8)
        var result: [UInt8] = []
        var rest = bytes[...]
        while let first = rest.first {
            let found = rest.starts(with: mark)
            result.append(found ? UInt8(ascii: " ") : first)
            rest = rest.dropFirst(found ? mark.count : 1)
        }
        return result
    }

    /// White space as Python's `strip` has it: four control characters more than Unicode.
    private static func isStripped(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
    }
}
