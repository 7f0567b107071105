/// Finds the tokens of a `tokenizer.json` that stand in the text as they are.
struct AddedTokens {
    /// A part of the text: a token that was found, or what is between such tokens.
    enum Part {
        case token(Int)
        case text(ArraySlice<Unicode.Scalar>)
    }

    private let tokens: [(content: [Unicode.Scalar], id: Int)]
    private let beginnings: Set<Unicode.Scalar>

    /// - Parameter tokens: What to find, and the ids of it; none is empty.
    init(_ tokens: [(content: [Unicode.Scalar], id: Int)]) {
        // Where several begin at one place, the longest counts.
        self.tokens = tokens.sorted { $0.content.count > $1.content.count }
        beginnings = Set(tokens.compactMap(\.content.first))
    }

    /// The text in parts, in order; parts of text are not empty.
    func parts(_ text: ArraySlice<Unicode.Scalar>) -> [Part] {
        var parts: [Part] = []
        var start = text.startIndex
        var place = start
        while place < text.endIndex {
            guard beginnings.contains(text[place]),
                let token = tokens.first(where: { text[place...].starts(with: $0.content) })
            else {
                place += 1
                continue
            }
            if start < place { parts.append(.text(text[start..<place])) }
            parts.append(.token(token.id))
            place += token.content.count
            start = place
        }
        if start < text.endIndex { parts.append(.text(text[start...])) }
        return parts
    }
}
