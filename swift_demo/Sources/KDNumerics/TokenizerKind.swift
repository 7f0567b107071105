/// Checks that a `tokenizer.json` says what the code beside this file does.
struct TokenizerKind {
    /// The words of CLIP, without the special tokens that newer files put in front.
    private static let words = #"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#

    /// Strings that are one word wherever they begin.
    let literals: [String]

    /// - Parameters:
    ///   - stored: The file's contents.
    ///   - file: Its name in messages.
    /// - Throws: `TokenizerError` naming the first part that is another.
    init(_ stored: TokenizerFile, file: String) throws {
        func require(_ condition: Bool, _ part: String) throws {
            if !condition { throw TokenizerError.unsupported(file: file, part: part) }
        }
        try require(Self.isNormalizer(stored.normalizer), "its normalizer is another")
        let parts = stored.pre_tokenizer?.pretokenizers ?? []
        let pattern = parts.first?.pattern?.Regex.flatMap(Self.literals)
        guard let literals = pattern, Self.isSplit(parts) else {
            throw TokenizerError.unsupported(file: file, part: "its pre-tokenizer is another")
        }
        self.literals = literals
        try require(stored.decoder?.type == "ByteLevel", "its decoder is another")
        let model = stored.model
        try require(model.type ?? "BPE" == "BPE", "its model is no byte pair encoding")
        try require(model.end_of_word_suffix == "</w>", "words do not end with '</w>'")
        let plain =
            (model.continuing_subword_prefix ?? "").isEmpty && (model.dropout ?? 0) == 0
            && !(model.byte_fallback ?? false) && !(model.ignore_merges ?? false)
            && !(model.fuse_unk ?? false)
        try require(plain, "its model has a setting that CLIP's has not")
        for token in stored.added_tokens {
            try require(
                !token.lstrip && !token.rstrip && !token.single_word && !token.content.isEmpty,
                "its token '\(token.content)' takes the space around it")
        }
    }

    /// Composed characters, runs of white space as one space, lower case; in this order.
    private static func isNormalizer(_ step: TokenizerFile.Step?) -> Bool {
        guard let steps = step?.normalizers, step?.type == "Sequence" else { return false }
        return steps.map(\.type) == ["NFC", "Replace", "Lowercase"]
            && steps[1].pattern?.Regex == #"\s+"# && steps[1].content == " "
    }

    /// The words of CLIP, then the bytes of each in GPT-2's words.
    private static func isSplit(_ steps: [TokenizerFile.Step]) -> Bool {
        steps.map(\.type) == ["Split", "ByteLevel"]
            && steps[0].behavior == "Removed" && steps[0].invert == true
            && steps[1].add_prefix_space == false && (steps[1].use_regex ?? true)
    }

    /// The literal strings in front of CLIP's pattern, or nil where it is another pattern.
    private static func literals(_ pattern: String) -> [String]? {
        guard pattern.hasSuffix(words) else { return nil }
        let front = pattern.dropLast(words.count)
        if front.isEmpty { return [] }
        guard front.last == "|" else { return nil }
        return unescaped(front.dropLast())
    }

    /// The alternatives of a pattern without special characters, or nil where it has some.
    private static func unescaped(_ pattern: Substring) -> [String]? {
        var alternatives = [""]
        var escaped = false
        for character in pattern {
            if escaped {
                guard !character.isLetter, !character.isNumber else { return nil }
                alternatives[alternatives.count - 1].append(character)
                escaped = false
            } else if character == "\\" {
                escaped = true
            } else if character == "|" {
                alternatives.append("")
            } else if "()[]{}.*+?^$".contains(character) || character.isWhitespace {
                return nil
            } else {
                alternatives[alternatives.count - 1].append(character)
            }
        }
        return escaped || alternatives.contains("") ? nil : alternatives
    }
}
