import KDNumerics

/// A request with nothing left open, checked against a bundle.
public struct Plan: Sendable, Equatable {
    /// The prompts.
    public let prompts: [String]
    /// A negative prompt for each, or nil for zero embeddings or no guidance.
    public let negatives: [String]?
    /// Denoising steps.
    public let steps: Int
    /// Guidance scale.
    public let guidance: Double
    /// Seed of all noise.
    public let seed: UInt64
    /// Width and height of the pictures.
    public let size: PixelSize
    /// Pictures of each prompt.
    public let imagesPerPrompt: Int
    /// Name of the sampler.
    public let scheduler: String
    /// Shape of the latents: images, channels, height, width.
    public let latentShape: [Int]
    /// Unit-variance noise to start from, or nil to draw it from the seed.
    public let latents: Tensor?
    /// The picture to start from, at the plan's size, or nil to start from noise.
    public let initial: Picture?
    /// Share of the steps that is run; 1 without a picture.
    public let strength: Double
    /// Size of the guidance embedding that the U-Net takes, or nil where guidance means a second
    /// row.
    public let guidanceSize: Int?
    /// What steers the run through a ControlNet, or nil where the bundle has none.
    public let control: Control?
    /// When steps come with a preview.
    public let previews: PreviewPolicy
    /// The prompts and negative prompts that are too long, and what of them is not read.
    public let truncations: [Truncation]

    /// Pictures that are drawn.
    public var images: Int { prompts.count * imagesPerPrompt }

    /// Whether each image takes two rows of the U-Net.
    public var isGuided: Bool { Plan.isGuided(guidance, guidanceSize: guidanceSize) }

    /// How many of the steps are left out at the beginning.
    public var skipped: Int { steps - Plan.keptSteps(steps, strength: strength) }

    static func isGuided(_ guidance: Double, guidanceSize: Int?) -> Bool {
        guidance > 1 && guidanceSize == nil
    }

    static func keptSteps(_ steps: Int, strength: Double) -> Int {
        Int(Double(steps) * strength)
    }
}

/// What steers a run through a ControlNet.
public struct Control: Sendable, Equatable {
    /// One picture for all prompts, or one for each, as the request has them.
    public let pictures: [Picture]
    /// Factor of the ControlNet's residuals.
    public let scale: Double
    /// Whether the pictures are inverted first.
    public let invert: Bool
}

/// A text that is longer than a text encoder reads.
public struct Truncation: Sendable, Equatable {
    /// The prompt or negative prompt.
    public let text: String
    /// The end of it that is cut off, as the tokenizer writes it.
    public let removed: String
}
