import KDNumerics

/// A tokenizer of a bundle and what its text encoder makes of the ids.
struct TextTokenizer: Sendable {
    let encoding: TextEncoding
    private let tokenizer: ClipTokenizer

    /// Reads the tokenizer's file; throws `TokenizerError` where it is none.
    init(_ encoding: TextEncoding, bundle: ModelBundle) throws {
        self.encoding = encoding
        tokenizer = try ClipTokenizer(
            file: bundle.url(encoding.tokenizer), maxLength: encoding.maxLength,
            bos: encoding.bosTokenID, eos: encoding.eosTokenID, pad: encoding.padTokenID)
    }

    /// The ids of a text, cut to the length that the text encoder reads, and what was cut off.
    func encode(_ text: String) -> Tokens {
        tokenizer.encode(text)
    }

    /// The ids of texts as the text encoder takes them, `(texts, maxLength)`.
    func ids(of texts: [String]) -> Tensor {
        let ids = texts.flatMap { encode($0).ids.map(Float.init) }
        return Tensor(shape: [texts.count, encoding.maxLength], values: ids)
    }
}
