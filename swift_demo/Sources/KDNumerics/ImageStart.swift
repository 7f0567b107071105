/// A run that begins at a later call of a full table, with the calls that are left.
///
/// It starts from `signal * encoded picture + noise * unit noise`; from there on it is a table like
/// any other, whose "initial noise" is that first latent. Solvers with a memory begin a new one at
/// the start; the columns of weights that this changes are kept here, and the others are those of
/// the full table.
public struct ImageStart: Sendable, Equatable {
    /// Weight of the encoded picture in the first latent.
    public let signal: Double
    /// Weight of noise of unit variance in the first latent.
    public let noise: Double

    /// Weight of the first latent in each row of the run.
    let latent: [Double]
    /// The first columns of model output weights, those that differ from the full table.
    let outputs: [[Double]]
    /// The same for the fresh noises.
    let fresh: [[Double]]

    /// Number of model calls.
    public var calls: Int { latent.count - 1 }

    /// The table of the run; its `initial` is the weight of the first latent.
    ///
    /// - Parameter full: The table of the whole schedule.
    /// - Throws: `SamplerError` where the start is not one of that schedule.
    public func table(_ full: SamplerTable) throws -> SamplerTable {
        guard (1...full.calls).contains(calls) else {
            throw SamplerError.malformed(
                "A start from a picture has \(calls) of the \(full.calls) calls of its schedule")
        }
        let end = try full.tail(calls)
        return try SamplerTable(
            timesteps: end.timesteps,
            initial: latent,
            outputs: replacingColumns(end.outputs, with: outputs),
            noise: replacingColumns(end.noise, with: fresh),
            draws: end.draws,
            scale: end.scale)
    }

    /// The latent that a run starts from.
    ///
    /// - Parameters:
    ///   - picture: The encoded picture, scaled as latents are: `(images, channels, h, w)`, or one
    ///     row for all images.
    ///   - noise: Noise of unit variance, `(images, channels, h, w)`.
    /// - Returns: `(images, channels, h, w)`.
    /// - Throws: `TensorError` where the shapes do not fit.
    public func firstLatent(picture: Tensor, noise: Tensor) throws -> Tensor {
        let rows = picture.rows == 1 ? picture.repeatingRows(noise.rows) : picture
        let (signal, amount) = (Float(signal), Float(self.noise))
        return try rows.combined(with: noise) { signal * $0 + amount * $1 }
    }
}

extension ImageStart: Decodable {}
