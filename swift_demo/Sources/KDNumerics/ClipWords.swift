/// Cuts normalized text into the words that byte pair encoding works on.
struct ClipWords {
    private static let endings = ["s", "t", "re", "ve", "m", "ll", "d"].map {
        Array(("'" + $0).unicodeScalars)
    }

    private let literals: [[Unicode.Scalar]]

    /// - Parameter literals: Strings that are one word wherever they begin.
    init(literals: [String]) {
        self.literals = literals.map { Array($0.unicodeScalars) }
    }

    /// The words in order; white space between them is dropped.
    ///
    /// A word is the first that fits: one of the literals, the end of an English contraction, a run
    /// of letters, one digit, or a run of anything else but white space.
    func words(_ text: ArraySlice<Unicode.Scalar>) -> [ArraySlice<Unicode.Scalar>] {
        var words: [ArraySlice<Unicode.Scalar>] = []
        var rest = text
        while let first = rest.first {
            if let literal = literals.first(where: rest.starts(with:)) {
                let end = rest.startIndex + literal.count
                words += Self.plainWords(rest[..<end])
                rest = rest[end...]
                continue
            }
            let end = Self.end(rest, first, wholeNumbers: false)
            if first.kind != .space { words.append(rest[..<end]) }
            rest = rest[end...]
        }
        return words
    }

    /// The words of GPT-2, which only a literal has more than one of: letters, digits, the others.
    private static func plainWords(
        _ text: ArraySlice<Unicode.Scalar>
    ) -> [ArraySlice<Unicode.Scalar>] {
        var words: [ArraySlice<Unicode.Scalar>] = []
        var rest = text
        while let first = rest.first {
            let end = Self.end(rest, first, wholeNumbers: true)
            words.append(rest[..<end])
            rest = rest[end...]
        }
        return words
    }

    private static func end(
        _ text: ArraySlice<Unicode.Scalar>, _ first: Unicode.Scalar, wholeNumbers: Bool
    ) -> Int {
        if first == "'", let ending = endings.first(where: text.starts(with:)) {
            return text.startIndex + ending.count
        }
        let kind = first.kind
        if kind == .number, !wholeNumbers { return text.startIndex + 1 }
        return text.firstIndex { $0.kind != kind } ?? text.endIndex
    }
}
