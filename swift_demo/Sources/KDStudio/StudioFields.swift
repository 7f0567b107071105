import KDDiffusion

// What the controls of the app show and change, in the form that they have it.
extension Studio {
    /// The negative prompt as text; an empty text stands for none.
    public var negativeText: String {
        get { settings.negativePrompt ?? "" }
        set { settings.negativePrompt = newValue.isEmpty ? nil : newValue }
    }

    /// The seed as digits; any other text stands for a random one.
    public var seedText: String {
        get { settings.seed.map(String.init) ?? "" }
        set { settings.seed = UInt32(newValue) }
    }

    /// The numbers of steps of the sampler, ascending; never empty.
    public var stepChoices: [Int] {
        let steps = rules?.steps(of: settings.scheduler) ?? []
        return steps.isEmpty ? [settings.steps] : steps
    }

    /// Which of `stepChoices` is chosen.
    public var stepIndex: Int {
        get { stepChoices.firstIndex(of: settings.steps) ?? 0 }
        set {
            let choices = stepChoices
            settings.steps = choices[min(max(newValue, 0), choices.count - 1)]
        }
    }

    /// Name of the sampler; another one brings the nearest number of steps that it has.
    public var sampler: String {
        get { settings.scheduler }
        set { choose(sampler: newValue) }
    }

    /// Width and height.
    public var size: PixelSize {
        get { PixelSize(width: settings.width, height: settings.height) }
        set {
            settings.width = newValue.width
            settings.height = newValue.height
        }
    }

    /// How far to go from the starting picture; what was not chosen shows as the usual strength.
    public var strength: Double {
        get { settings.strength ?? rules?.usualStrength ?? 1 }
        set { settings.strength = newValue }
    }

    /// How much the control picture counts; what was not chosen shows as the usual scale.
    public var controlScale: Double {
        get { settings.controlScale ?? rules?.usualControlScale ?? 1 }
        set { settings.controlScale = newValue }
    }

    /// Whether pictures are shown while they come into being; what was not chosen shows as what
    /// slows nothing.
    public var livePreview: Bool {
        get { rules?.showsPreviews(settings, reducedMemory: reducedMemory) ?? false }
        set { settings.livePreview = newValue }
    }

    /// Whether one model is held in memory at a time; a change loads the models anew.
    public var wantsReducedMemory: Bool {
        get { reducedMemory }
        set { Task { await setReducedMemory(newValue) } }
    }

    /// Whether there is a notice; false takes it away.
    public var hasNotice: Bool {
        get { notice != nil }
        set { if !newValue { notice = nil } }
    }
}
