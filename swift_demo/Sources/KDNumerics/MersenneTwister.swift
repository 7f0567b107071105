/// The generator MT19937 in 32 bits, seeded with one number, as torch and NumPy have it.
struct MersenneTwister: Sendable {
    private static let size = 624
    private static let offset = 397

    private var state: [UInt32]
    private var next = MersenneTwister.size

    init(seed: UInt32) {
        state = Array(repeating: seed, count: Self.size)
        for index in 1..<Self.size {
            let previous = state[index - 1]
            state[index] = 1_812_433_253 &* (previous ^ previous >> 30) &+ UInt32(index)
        }
    }

    /// The next 32 random bits.
    mutating func word() -> UInt32 {
        if next == Self.size { refill() }
        var word = state[next]
        next += 1
        word ^= word >> 11
        word ^= word << 7 & 0x9D2C_5680
        word ^= word << 15 & 0xEFC6_0000
        return word ^ word >> 18
    }

    private mutating func refill() {
        for index in 0..<Self.size {
            let following = state[(index + 1) % Self.size]
            let joined = state[index] & 0x8000_0000 | following & 0x7FFF_FFFF
            let twisted = joined >> 1 ^ (joined & 1 == 0 ? 0 : 0x9908_B0DF)
            state[index] = state[(index + Self.offset) % Self.size] ^ twisted
        }
        next = 0
    }
}
