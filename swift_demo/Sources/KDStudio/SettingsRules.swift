import KDDiffusion
import KDNumerics

/// What a bundle allows, for the controls of the app.
public struct SettingsRules: Sendable, Equatable {
    /// A sampler and the numbers of steps that it has tables for.
    public struct Sampler: Sendable, Equatable, Identifiable {
        /// Its name in the bundle.
        public let name: String
        /// Class name of the diffusers scheduler.
        public let scheduler: String
        /// Numbers of steps, ascending.
        public let steps: [Int]
        /// Whether it can begin with a picture.
        public let startsFromPicture: Bool

        public var id: String { name }
    }

    /// Where the user has not chosen.
    public let defaults: Settings
    /// The sizes, the default first; empty where any multiple of `multiple` is allowed.
    public let sizes: [PixelSize]
    /// Width and height are multiples of this many pixels.
    public let multiple: Int
    /// The samplers, the model's own first.
    public let samplers: [Sampler]
    /// Whether a negative prompt can make a difference: a guidance embedding takes its place.
    public let takesNegativePrompt: Bool
    /// Whether a picture can be drawn from another one.
    public let takesStartingPicture: Bool
    /// Whether the bundle needs a picture to draw after.
    public let needsControlPicture: Bool
    /// Whether the decoder is so small that previews hardly slow a picture.
    public let hasQuickPreviews: Bool
    /// How far a picture goes from its starting picture where nothing was chosen.
    public let usualStrength: Double
    /// How much a control picture counts where nothing was chosen.
    public let usualControlScale: Double

    /// Reads the rules off a manifest.
    public init(_ manifest: Manifest) {
        let wanted = manifest.defaults
        defaults = Settings(
            steps: wanted.steps, guidance: wanted.guidance, width: wanted.width,
            height: wanted.height, scheduler: wanted.scheduler)
        let shapes = manifest.shapes
        if !shapes.sizes.isEmpty {
            sizes = shapes.sizes
        } else if let width = shapes.width, let height = shapes.height {
            sizes = [PixelSize(width: width, height: height)]
        } else {
            sizes = []
        }
        multiple = shapes.multiple
        samplers = manifest.samplers.map { record in
            Sampler(
                name: record.name, scheduler: record.scheduler, steps: record.steps,
                startsFromPicture: record.image != nil)
        }
        takesNegativePrompt = manifest.guidanceEmbedding == nil
        takesStartingPicture = manifest.canStartFromPicture
        needsControlPicture = manifest.control != nil
        // A full decoder has 49.5 million weights and computes more than a step, a tiny one 1.2.
        hasQuickPreviews = (manifest.component(.vaeDecoder)?.parameters ?? .max) < 10_000_000
        usualStrength = manifest.family.defaultStrength
        usualControlScale = manifest.control?.scale ?? 1
    }

    /// The numbers of steps of a sampler, ascending; empty where there is no such sampler.
    public func steps(of scheduler: String) -> [Int] {
        samplers.first { $0.name == scheduler }?.steps ?? []
    }

    /// The nearest settings that the bundle can draw; texts and seed stay as they are.
    ///
    /// For what was chosen for another bundle, or for another sampler.
    public func fitted(_ settings: Settings) -> Settings {
        var fitted = settings
        if !samplers.contains(where: { $0.name == settings.scheduler }) {
            fitted.scheduler = defaults.scheduler
        }
        let allowed = steps(of: fitted.scheduler)
        fitted.steps = nearest(settings.steps, in: allowed) ?? defaults.steps
        let size = PixelSize(width: settings.width, height: settings.height)
        if sizes.isEmpty {
            fitted.width = rounded(settings.width)
            fitted.height = rounded(settings.height)
        } else if !sizes.contains(size) {
            fitted.width = defaults.width
            fitted.height = defaults.height
        }
        if !settings.guidance.isFinite { fitted.guidance = defaults.guidance }
        fitted.images = min(max(settings.images, 1), Self.mostImages)
        if let strength = settings.strength, !(strength > 0 && strength <= 1) {
            fitted.strength = nil
        }
        if let scale = settings.controlScale, !scale.isFinite { fitted.controlScale = nil }
        return fitted
    }

    /// What the app offers to draw at once.
    public static let mostImages = 8

    private func rounded(_ pixels: Int) -> Int {
        guard multiple > 0 else { return pixels }
        return max(pixels + multiple / 2, multiple) / multiple * multiple
    }

    private func nearest(_ value: Int, in allowed: [Int]) -> Int? {
        allowed.min { abs($0 - value) < abs($1 - value) }
    }
}
