/// The table of one scheduler at one number of steps.
///
/// For a fixed number of steps a linear scheduler makes every latent a weighted sum of the initial
/// noise, the (guided) model outputs so far and the fresh noise that it drew. Row `i` gives the
/// input of model call `i`, and the last row the final latent:
///
///     x_i = initial[i] * x_T + Σ_j outputs[i][j] * out_j + Σ_k noise[i][k] * noise_k
public struct SamplerTable: Sendable, Equatable {
    /// The timestep handed to the model at each call. There can be more calls than steps were
    /// asked for (PNDM makes one more, Heun nearly twice as many).
    public let timesteps: [Double]
    /// Weight of the initial noise in each row; `calls + 1` of them.
    public let initial: [Double]
    /// Weights of the model outputs; row `i` has `i` of them.
    public let outputs: [[Double]]
    /// Weights of the fresh noises; row `i` has one for each noise drawn before it.
    public let noise: [[Double]]
    /// How many fresh noises are drawn after each call.
    public let draws: [Int]
    /// What the scheduler scales each row with for the model, the last one 1: a row divided by it
    /// is the latent itself, which previews decode.
    public let scale: [Double]

    /// Number of model calls.
    public var calls: Int { timesteps.count }

    /// Makes a table; throws `SamplerError` where the rows do not fit the number of calls.
    public init(
        timesteps: [Double], initial: [Double], outputs: [[Double]], noise: [[Double]],
        draws: [Int], scale: [Double]
    ) throws {
        self.timesteps = timesteps
        self.initial = initial
        self.outputs = outputs
        self.noise = noise
        self.draws = draws
        self.scale = scale
        try check()
    }

    private func check() throws {
        let lengths = [initial.count, outputs.count, noise.count, scale.count]
        guard calls > 0, lengths.allSatisfy({ $0 == calls + 1 }), draws.count == calls,
            draws.allSatisfy({ $0 >= 0 && $0 < 1 << 16 })
        else {
            throw SamplerError.malformed(
                "A sampler table with \(calls) calls needs \(calls + 1) rows and \(calls) draws")
        }
        var drawn = 0
        for row in 0...calls {
            guard outputs[row].count == row, noise[row].count == drawn else {
                throw SamplerError.malformed(
                    "Row \(row) of a sampler table has \(outputs[row].count) output and "
                        + "\(noise[row].count) noise weights instead of \(row) and \(drawn)")
            }
            drawn += row < calls ? draws[row] : 0
        }
    }

    /// Evaluates one row in 32 bits, one term after the other.
    ///
    /// - Parameters:
    ///   - index: 0 to `calls`; the last one is the final latent.
    ///   - initial: Noise of unit variance, any shape.
    ///   - outputs: Model outputs of the calls 0 to `index - 1`, the shape of `initial`.
    ///   - noises: Fresh noises drawn so far, in order, the shape of `initial`.
    /// - Throws: `SamplerError` where there are too few outputs or noises, or one has another
    ///   shape.
    public func row(
        _ index: Int, initial: Tensor, outputs: [Tensor], noises: [Tensor]
    ) throws -> Tensor {
        guard (0...calls).contains(index), outputs.count >= index,
            noises.count >= noise[index].count
        else { throw SamplerError.early(row: index) }
        let terms =
            zip(self.outputs[index], outputs).filter { $0.0 != 0 }
            + zip(noise[index], noises).filter { $0.0 != 0 }
        for (_, tensor) in terms where tensor.shape != initial.shape {
            throw SamplerError.shape(tensor.shape, latents: initial.shape)
        }
        var total = initial.values
        total.withUnsafeMutableBufferPointer { total in
            let first = Float(self.initial[index])
            for place in total.indices { total[place] *= first }
            for (weight, tensor) in terms {
                add(tensor.values, times: Float(weight), to: total)
            }
        }
        return Tensor(shape: initial.shape, values: total)
    }
}

/// Adds `factor * values` to `total`, each product rounded before it is added.
private func add(
    _ values: [Float], times factor: Float, to total: UnsafeMutableBufferPointer<Float>
) {
    values.withUnsafeBufferPointer { values in
        for place in total.indices { total[place] += factor * values[place] }
    }
}

extension SamplerTable: Decodable {
    private enum Key: String, CodingKey {
        case timesteps, initial, outputs, noise, draws, scale
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        try self.init(
            timesteps: values.decode([Double].self, forKey: .timesteps),
            initial: values.decode([Double].self, forKey: .initial),
            outputs: values.decode([[Double]].self, forKey: .outputs),
            noise: values.decode([[Double]].self, forKey: .noise),
            draws: values.decode([Int].self, forKey: .draws),
            scale: values.decode([Double].self, forKey: .scale))
    }
}
