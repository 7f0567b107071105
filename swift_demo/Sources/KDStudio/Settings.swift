/// What the user chose for the next picture; it is stored beside each picture.
public struct Settings: Sendable, Equatable, Codable {
    /// The prompt.
    public var prompt = ""
    /// What to steer away from; nil for the bundle's own way, which the empty text is not.
    public var negativePrompt: String?
    /// Denoising steps.
    public var steps: Int
    /// Guidance scale; at most 1 means none.
    public var guidance: Double
    /// Seed of the noise, or nil for another one each time.
    public var seed: UInt32?
    /// Width in pixels.
    public var width: Int
    /// Height in pixels.
    public var height: Int
    /// Name of a sampler of the bundle.
    public var scheduler: String
    /// How many pictures to draw.
    public var images = 1
    /// Whether pictures are shown while they come into being; nil for where that takes no time.
    public var livePreview: Bool?
    /// How far to go from the starting picture, above 0 and at most 1; nil for the default.
    public var strength: Double?
    /// How much the control picture counts; nil for the default.
    public var controlScale: Double?

    /// Takes what a bundle has as its defaults.
    public init(steps: Int, guidance: Double, width: Int, height: Int, scheduler: String) {
        self.steps = steps
        self.guidance = guidance
        self.width = width
        self.height = height
        self.scheduler = scheduler
    }
}
