/// Walks through a compiled sampler one model call at a time.
///
///     while !stepper.isDone {
///         let output = try model(stepper.input(), stepper.timestep)
///         try stepper.push(output, noise: &noise)
///     }
///
/// Then `latent()` is the result; between calls it is the preview.
public struct Stepper: Sendable {
    /// The compiled sampler.
    public let table: SamplerTable

    private let initial: Tensor
    private var outputs: [Tensor] = []
    private var noises: [Tensor] = []

    /// Starts before the first model call.
    ///
    /// - Parameters:
    ///   - table: The compiled sampler.
    ///   - initial: Noise of unit variance, any shape; with a picture, the first latent.
    public init(table: SamplerTable, initial: Tensor) {
        self.table = table
        self.initial = initial
    }

    /// Model calls made so far.
    public var calls: Int { outputs.count }

    /// Whether all model calls are made and `latent()` is the final latent.
    public var isDone: Bool { calls == table.calls }

    /// The timestep of the next model call; throws `SamplerError` where there is none.
    public var timestep: Double {
        get throws {
            try requireOpen()
            return table.timesteps[calls]
        }
    }

    /// The scaled latent for the next model call; throws `SamplerError` where there is none.
    public func input() throws -> Tensor {
        try requireOpen()
        return try row()
    }

    /// Takes the output of the next model call and draws the fresh noises that follow it.
    ///
    /// - Parameters:
    ///   - output: The model output after guidance, the shape of the initial noise.
    ///   - noise: Drawn from as often as the scheduler drew, so that a seeded source stays in step
    ///     with diffusers.
    /// - Throws: `SamplerError` where all calls are made, or the shape is another.
    public mutating func push(_ output: Tensor, noise: inout some NoiseSource) throws {
        try requireOpen()
        guard output.shape == initial.shape else {
            throw SamplerError.shape(output.shape, latents: initial.shape)
        }
        for _ in 0..<table.draws[calls] { noises.append(noise.normal(initial.shape)) }
        outputs.append(output)
    }

    /// The latent after the calls made so far, without the scale of the model's input.
    public func latent() throws -> Tensor {
        try row() / Float(table.scale[calls])
    }

    private func row() throws -> Tensor {
        try table.row(calls, initial: initial, outputs: outputs, noises: noises)
    }

    private func requireOpen() throws {
        if isDone { throw SamplerError.finished(calls: calls) }
    }
}
