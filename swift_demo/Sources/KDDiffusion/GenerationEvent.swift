import KDNumerics

/// What a generation reports, in this order: the plan, a report for each step, the pictures.
public enum GenerationEvent: Sendable {
    /// The request was checked and every blank filled in; the work begins.
    case started(Plan)
    /// A step is done.
    case step(StepReport)
    /// All is done: the pictures, those of one prompt together, and the plan that they were drawn
    /// by.
    case finished([Picture], Plan)
}

/// One call of the U-Net and what came of it.
public struct StepReport: Sendable {
    /// Number of the call, from 0.
    public let index: Int
    /// Number of calls, which can differ from the steps asked for.
    public let total: Int
    /// What the U-Net was told.
    public let timestep: Double
    /// The latents after the call, `(images, channels, height / factor, width / factor)`, without
    /// the scale of the model's input.
    public let latents: Tensor
    /// The first picture as it is now, where the request asks for it after this step.
    public let preview: Picture?

    /// Makes a report, for what stands in for a pipeline in tests and previews of an app.
    public init(index: Int, total: Int, timestep: Double, latents: Tensor, preview: Picture?) {
        self.index = index
        self.total = total
        self.timestep = timestep
        self.latents = latents
        self.preview = preview
    }
}
