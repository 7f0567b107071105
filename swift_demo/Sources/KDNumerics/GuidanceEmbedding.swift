import Foundation

/// The guidance scale as an input of the U-Net, for latent consistency models.
///
/// It is the sinusoidal embedding of `guidance - 1`, rounded to 32 bits where diffusers rounds:
/// the largest angle is a thousand times the scale, so the last bit of a frequency is the fourth
/// digit of a sine.
///
/// - Parameters:
///   - guidance: The guidance scale.
///   - size: Channels of the embedding, at least 4.
/// - Returns: `size` numbers: sines, cosines, and a zero where the size is odd.
public func guidanceEmbedding(_ guidance: Double, size: Int) -> [Float] {
    precondition(size >= 4, "An embedding has at least 4 channels.")
    let half = size / 2
    let step = Float(log(10000.0)) / Float(half - 1)
    let scale = Float(guidance - 1) * 1000
    let angles = (0..<half).map { index in
        // In 64 bits, so that every machine rounds alike.
        let frequency = Float(exp(Double(Float(index) * -step)))
        return Double(scale * frequency)
    }
    let padding = Array(repeating: Float(0), count: size % 2)
    return angles.map { Float(sin($0)) } + angles.map { Float(cos($0)) } + padding
}
