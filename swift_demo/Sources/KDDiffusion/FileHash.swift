import Foundation
import KDNumerics

#if canImport(CryptoKit)
    import CryptoKit
#endif

/// The SHA-256 of a file's pieces, by what the system has for it: that is fast even where this
/// package is built for debugging.
struct FileHash {
    #if canImport(CryptoKit)
        private var hash = CryptoKit.SHA256()
    #else
        private var hash = KDNumerics.SHA256()
    #endif

    /// Takes the next piece.
    mutating func update(_ piece: Data) {
        #if canImport(CryptoKit)
            hash.update(data: piece)
        #else
            hash.update(piece)
        #endif
    }

    /// The hash in hexadecimal digits.
    func hex() -> String {
        #if canImport(CryptoKit)
            hash.finalize().map { String(format: "%02x", $0) }.joined()
        #else
            hash.hex()
        #endif
    }
}

extension FileHandle {
    /// The next bytes, at most so many; empty at the end.
    ///
    /// Apple's systems would keep every piece until the thread is idle, and so the whole file.
    func piece(upTo count: Int) throws -> Data {
        #if canImport(ObjectiveC)
            try autoreleasepool { try read(upToCount: count) ?? Data() }
        #else
            try read(upToCount: count) ?? Data()
        #endif
    }
}
