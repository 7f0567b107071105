/// Byte pair encoding: words to token ids.
struct BytePairs: Sendable {
    private struct Merge: Sendable {
        let rank: Int32
        let id: Int32
    }

    /// The ids of each byte inside a word and of each byte at the end of one; -1 where the
    /// vocabulary lacks it.
    private let inside: [Int32]
    private let last: [Int32]
    private let unknown: Int32?
    private let merges: [UInt64: Merge]

    /// - Parameters:
    ///   - model: The vocabulary and the merges.
    ///   - file: Its name in messages.
    /// - Throws: `TokenizerError` where a merge or the unknown token is not in the vocabulary.
    init(_ model: TokenizerFile.Model, file: String) throws {
        func id(_ token: String) throws -> Int32 {
            guard let id = model.vocab[token].flatMap(Int32.init(exactly:)), id >= 0 else {
                throw TokenizerError.unreadable(
                    file: file, reason: "its vocabulary lacks '\(token)'")
            }
            return id
        }
        unknown = try model.unk_token.map(id)
        let symbols = ByteSymbols.characters.map { String($0) }
        inside = symbols.map { model.vocab[$0].flatMap(Int32.init(exactly:)) ?? -1 }
        last = symbols.map { model.vocab[$0 + "</w>"].flatMap(Int32.init(exactly:)) ?? -1 }
        var merges: [UInt64: Merge] = [:]
        merges.reserveCapacity(model.merges.pairs.count)
        for (rank, pair) in model.merges.pairs.enumerated() {
            let key = Self.key(try id(pair.0), try id(pair.1))
            merges[key] = Merge(rank: Int32(rank), id: try id(pair.0 + pair.1))
        }
        self.merges = merges
    }

    /// The tokens of one word.
    ///
    /// - Parameter word: Its bytes, at least one.
    func tokens(_ word: [UInt8]) -> [Int] {
        var chain = symbols(word)
        var queue = Heap<Candidate>()
        for place in chain.indices.dropLast() {
            if let candidate = candidate(chain, place) { queue.push(candidate) }
        }
        while let best = queue.pop() {
            let next = chain[best.place].next
            // Since it was queued, one of the two may have been merged with something else.
            guard chain[best.place].id >= 0, next < chain.count,
                merges[Self.key(chain[best.place].id, chain[next].id)]?.id == best.id
            else { continue }
            chain[best.place].id = best.id
            chain[best.place].next = chain[next].next
            chain[next].id = -1
            if chain[best.place].next < chain.count {
                chain[chain[best.place].next].previous = best.place
                if let candidate = candidate(chain, best.place) { queue.push(candidate) }
            }
            let previous = chain[best.place].previous
            if previous >= 0, let candidate = candidate(chain, previous) { queue.push(candidate) }
        }
        return chain.lazy.filter { $0.id >= 0 }.map { Int($0.id) }
    }

    /// A part of a word in a linked list; its id is -1 once it was merged into the part before it.
    private struct Symbol {
        var id: Int32
        var previous: Int
        var next: Int
    }

    /// A merge that could be made: the one of the lowest rank comes first, then the leftmost.
    private struct Candidate: Comparable {
        let rank: Int32
        let place: Int
        let id: Int32

        static func < (first: Candidate, second: Candidate) -> Bool {
            (first.rank, first.place) < (second.rank, second.place)
        }
    }

    private func symbols(_ word: [UInt8]) -> [Symbol] {
        var chain: [Symbol] = []
        chain.reserveCapacity(word.count)
        for (place, byte) in word.enumerated() {
            let table = place == word.count - 1 ? last : inside
            let known = table[Int(byte)]
            // A byte that neither the vocabulary nor an unknown token stands for is left out.
            guard let id = known >= 0 ? known : unknown else { continue }
            chain.append(Symbol(id: id, previous: chain.count - 1, next: chain.count + 1))
        }
        return chain
    }

    private func candidate(_ chain: [Symbol], _ place: Int) -> Candidate? {
        let key = Self.key(chain[place].id, chain[chain[place].next].id)
        return merges[key].map { Candidate(rank: $0.rank, place: place, id: $0.id) }
    }

    private static func key(_ first: Int32, _ second: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: first)) << 32 | UInt64(UInt32(bitPattern: second))
    }
}
