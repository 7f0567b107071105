import Foundation

#if canImport(Darwin)
    import Darwin
#else
    import Glibc
#endif

/// What the program says: results on standard output, everything else on standard error.
struct Console: Sendable {
    // One line that is written over again, where somebody watches.
    private let isTerminal = isatty(STDERR_FILENO) == 1

    /// Says what is under way, in place of what was said before on a terminal.
    func progress(_ text: String) {
        write(isTerminal ? "\r\u{1B}[K\(text)" : "\(text)\n")
    }

    /// Ends what `progress` has said.
    func endProgress() {
        if isTerminal { write("\r\u{1B}[K") }
    }

    /// Says something that stays.
    func say(_ text: String) {
        endProgress()
        write("\(text)\n")
    }

    /// Prints a result.
    func result(_ text: String) {
        endProgress()
        FileHandle.standardOutput.write(Data("\(text)\n".utf8))
    }

    private func write(_ text: String) {
        FileHandle.standardError.write(Data(text.utf8))
    }
}
