import KDDiffusion
import KDNumerics
import Observation

/// The state of an app that draws: what it has, what it does, what the user chose.
///
/// Views read it and call its methods; it never fails, but says in `phase` or `notice` what went
/// wrong.
@MainActor
@Observable
public final class Studio {
    /// What the app is doing.
    public internal(set) var phase = Phase.noBundle
    /// The bundles there are.
    public internal(set) var entries: [BundleEntry] = []
    /// The bundle that is drawn with.
    public internal(set) var current: BundleEntry?
    /// What the current bundle allows.
    public internal(set) var rules: SettingsRules?
    /// What is drawn next; read it where `rules` is not nil.
    public var settings = Settings(
        steps: 20, guidance: 7.5, width: 512, height: 512, scheduler: "default")
    /// The pictures that were chosen for it.
    public var pictures = ChosenPictures()
    /// Whether one model is held in memory at a time; see `setReducedMemory`.
    public internal(set) var reducedMemory = false
    /// The picture as it comes into being.
    public internal(set) var preview: Picture?
    /// The pictures that were drawn last.
    public internal(set) var latest: [GalleryItem] = []
    /// All pictures that are stored, the latest first.
    public internal(set) var items: [GalleryItem] = []
    /// How far a bundle is that is being added, or nil.
    public internal(set) var adding: BundleLibrary.Progress?
    /// What the user should know, such as the end of a prompt that was cut off; nil for nothing.
    public var notice: String?

    @ObservationIgnored let environment: StudioEnvironment
    @ObservationIgnored var drawer: (any Drawer)?
    @ObservationIgnored var work: Task<Void, Never>?
    @ObservationIgnored var loads = 0
    @ObservationIgnored var isStarted = false
    @ObservationIgnored var addition: Task<BundleEntry, any Error>?

    /// Nothing is read yet; call `start`.
    public init(environment: StudioEnvironment) {
        self.environment = environment
    }

    /// What keeps the settings from being drawn, the most important first.
    public var problems: [SettingsProblem] {
        rules?.problems(settings, pictures: pictures) ?? []
    }

    /// Whether `draw` would begin now.
    public var canDraw: Bool {
        current != nil && rules != nil && problems.isEmpty && !phase.isBusy
    }

    /// The memory in use now.
    public var memory: MemoryReading? { environment.memory() }

    /// Where an item's picture is.
    public var gallery: Gallery { environment.gallery }

    /// Takes the settings of a picture, as near as the current bundle allows.
    public func reuse(_ item: GalleryItem) {
        settings = rules?.fitted(item.settings) ?? item.settings
    }

    /// Chooses another sampler, and the nearest number of steps that it has.
    public func choose(sampler name: String) {
        var wanted = settings
        wanted.scheduler = name
        settings = rules?.fitted(wanted) ?? wanted
    }
}
