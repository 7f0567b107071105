import Foundation
import KDNumerics

/// A picture that went through the encoder, and how the schedule begins with it.
struct EncodedPicture: Sendable {
    /// What the encoder gave: latents, or the mean and the logarithm of the variance one after the
    /// other along the channels; one row.
    let encoded: Tensor
    /// Whether it is the latter, of which latents are drawn.
    let isDistribution: Bool
    let space: LatentSpace
    let start: ImageStart

    /// Draws the first latents of all images, in the order of diffusers: one draw for the picture,
    /// where it is a distribution, which all images share; then the noise of all images in one.
    func firstLatents(_ noise: inout some NoiseSource, shape: [Int]) throws -> Tensor {
        let latents = isDistribution ? try sample(&noise) : encoded
        let scaled = Float(space.scalingFactor) * (latents - Float(space.shiftFactor))
        return try start.firstLatent(picture: scaled, noise: noise.normal(shape))
    }

    private func sample(_ noise: inout some NoiseSource) throws -> Tensor {
        let parts = try encoded.split(2, axis: 1)
        // The range that diffusers keeps the logarithm in.
        let deviation = parts[1].map { expf(0.5 * min(max($0, -30), 20)) }
        return try parts[0].adding(deviation.multiplied(by: noise.normal(deviation.shape)))
    }
}

extension Drawing {
    /// Encodes the picture that the plan starts from, or nil where it starts from noise.
    func encodePicture() async throws -> EncodedPicture? {
        guard let picture = plan.initial, let start = schedule.start else { return nil }
        let record = try components.record(.vaeEncoder)
        let isDistribution = record.ports.values.contains(PortName.encodedParameters)
        let output = isDistribution ? PortName.encodedParameters : PortName.encodedLatent
        let feed = Feed(tensors: [PortName.sample: picture.signed()])
        let encoded = try await components.use(.vaeEncoder) { encoder in
            try await encoder.run(feed, outputs: [output])[output]
        }
        guard let encoded else { throw KDError.missingOutput(output, file: record.file) }
        try encoded.requireFinite(.vaeEncoder)
        return EncodedPicture(
            encoded: encoded, isDistribution: isDistribution, space: manifest.latents, start: start)
    }
}
