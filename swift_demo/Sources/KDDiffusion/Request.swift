import KDNumerics

/// What a user asks for; nil stands for the bundle's default.
///
/// A request is checked against the bundle when it is planned or drawn (`DiffusionPipeline.plan`,
/// `generate`), not when it is made.
public struct Request: Sendable, Equatable {
    /// The prompts, drawn in one batch.
    public var prompts: [String]
    /// What to steer away from: one text for all prompts, or one for each. The empty text is
    /// encoded as such; where neither this nor the bundle names one, the model's own way holds
    /// (SDXL: zero embeddings, SD: the empty text).
    public var negativePrompts: [String]?
    /// Denoising steps.
    public var steps: Int?
    /// Guidance scale; at most 1 means none, and one row of the U-Net per image.
    public var guidance: Double?
    /// Seed of all noise, nil for a random one (`Plan.seed` tells which). The generator keeps the
    /// low 32 bits only, as torch's does.
    public var seed: UInt64?
    /// Width of the pictures in pixels.
    public var width: Int?
    /// Height of the pictures in pixels.
    public var height: Int?
    /// Pictures of each prompt.
    public var imagesPerPrompt = 1
    /// Name of a sampler of the bundle.
    public var scheduler: String?
    /// Unit-variance noise to start from, `(images, channels, height / factor, width / factor)`;
    /// the seed then serves the fresh noise of stochastic samplers only.
    public var latents: Tensor?
    /// A picture to start from instead of noise, for which the bundle needs an encoder. All images
    /// start from it. Without a width and height, its own size is drawn, rounded down to what the
    /// bundle takes.
    public var initial: Picture?
    /// How far to go from that picture, above 0 and at most 1: the share of the steps that is run.
    public var strength: Double?
    /// What a bundle with a ControlNet draws after, resized to the size of the image: one picture
    /// for all prompts, or one for each; empty for none.
    public var control: [Picture] = []
    /// How much the ControlNet counts; 0 for not at all.
    public var controlScale: Double?
    /// When steps come with a preview.
    public var previews = PreviewPolicy.never

    /// Asks for one prompt; everything else is the bundle's default.
    public init(prompt: String) {
        self.init(prompts: [prompt])
    }

    /// Asks for several prompts in one batch; everything else is the bundle's default.
    public init(prompts: [String]) {
        self.prompts = prompts
    }
}

/// When a step comes with a preview of the first picture.
public enum PreviewPolicy: Sendable, Equatable {
    /// Never.
    case never
    /// After every so many steps, at least 1, but not after the last one: the picture follows it.
    case every(Int)
}
