import Foundation

/// The numbers of `numpy.random.RandomState(seed).standard_normal(shape)`, rounded to 32 bits.
///
/// Apple's Swift package draws with these unless told otherwise.
public struct NumpyNoise: NoiseSource {
    private var words: MersenneTwister
    private var waiting: Double?

    /// Starts as `numpy.random.RandomState(seed)` does.
    public init(seed: UInt32) {
        words = MersenneTwister(seed: seed)
    }

    public mutating func normal(_ shape: [Int]) -> Tensor {
        let values = (0..<shape.reduce(1, *)).map { _ in Float(single()) }
        return Tensor(shape: shape, values: values)
    }

    /// The polar method in 64 bits: of each pair the second number comes first.
    private mutating func single() -> Double {
        if let value = waiting {
            waiting = nil
            return value
        }
        while true {
            let x = 2.0 * uniform() - 1.0
            let y = 2.0 * uniform() - 1.0
            let square = x * x + y * y
            guard square < 1, square != 0 else { continue }
            let factor = (-2.0 * log(square) / square).squareRoot()
            waiting = factor * x
            return factor * y
        }
    }

    /// One number in [0, 1) of the upper 27 and the upper 26 bits of two words.
    private mutating func uniform() -> Double {
        let high = Double(words.word() >> 5)
        let low = Double(words.word() >> 6)
        return (high * 67_108_864 + low) / 9_007_199_254_740_992
    }
}
