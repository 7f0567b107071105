import KDDiffusion
import KDNumerics

/// The pictures that the user chose for the next one.
public struct ChosenPictures: Sendable, Equatable {
    /// Where to start from instead of noise.
    public var initial: Picture?
    /// What to draw after, for a ControlNet.
    public var control: Picture?

    public init(initial: Picture? = nil, control: Picture? = nil) {
        self.initial = initial
        self.control = control
    }
}

extension SettingsRules {
    /// What to ask the pipeline for.
    ///
    /// What the bundle does not know is left out: a picture that was chosen for another bundle, a
    /// negative prompt that could make no difference.
    ///
    /// - Parameters:
    ///   - settings: What the user chose.
    ///   - pictures: The pictures that the user chose.
    ///   - reducedMemory: Whether a preview would load the decoder beside the U-Net.
    public func request(
        _ settings: Settings, pictures: ChosenPictures = .init(), reducedMemory: Bool = false
    ) -> Request {
        var request = Request(prompt: settings.prompt)
        if takesNegativePrompt, let negative = settings.negativePrompt {
            request.negativePrompts = [negative]
        }
        request.steps = settings.steps
        request.guidance = settings.guidance
        request.seed = settings.seed.map(UInt64.init)
        request.width = settings.width
        request.height = settings.height
        request.scheduler = settings.scheduler
        request.imagesPerPrompt = settings.images
        if takesStartingPicture, let initial = pictures.initial {
            request.initial = initial
            request.strength = settings.strength
        }
        if needsControlPicture, let control = pictures.control {
            request.control = [control]
            request.controlScale = settings.controlScale
        }
        // A preview takes a run of the decoder, so there are some five of them.
        if showsPreviews(settings, reducedMemory: reducedMemory) {
            request.previews = .every(max(1, settings.steps / 5))
        }
        return request
    }

    /// Whether pictures are shown while they come into being: as the user chose, else where that
    /// slows nothing.
    public func showsPreviews(_ settings: Settings, reducedMemory: Bool) -> Bool {
        settings.livePreview ?? (hasQuickPreviews && !reducedMemory)
    }
}
