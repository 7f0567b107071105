/// The printable characters that stand for bytes in the vocabulary.
///
/// The bytes that are printable in Latin-1 stand for themselves, the others are the characters from
/// U+0100 on.
enum ByteSymbols {
    /// The character of each byte.
    static let characters: [Unicode.Scalar] = {
        var next: UInt32 = 256
        return (UInt8.min...UInt8.max).map { byte in
            if isPrintable(byte) { return Unicode.Scalar(byte) }
            defer { next += 1 }
            return Unicode.Scalar(next) ?? " "
        }
    }()

    private static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
        uniqueKeysWithValues: characters.enumerated().map { ($1, UInt8($0)) })

    /// The bytes that a token stands for; a token with any other character is its own UTF-8.
    static func bytes(of token: String) -> [UInt8] {
        var result: [UInt8] = []
        for scalar in token.unicodeScalars {
            guard let byte = bytes[scalar] else { return Array(token.utf8) }
            result.append(byte)
        }
        return result
    }

    private static func isPrintable(_ byte: UInt8) -> Bool {
        (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
    }
}
