/// A bundle's description: everything that a run needs to know, as `manifest.json` has it.
public struct Manifest: Sendable, Equatable {
    /// The latest version of the format that this package reads.
    public static let knownSchema = 1

    /// Shape of the pipeline.
    public enum Family: String, Sendable, Decodable {
        case sd, sdxl

        /// How far a picture goes from its starting picture where nothing was chosen: the defaults
        /// of diffusers' pipelines.
        public var defaultStrength: Double { self == .sd ? 0.8 : 0.3 }
    }

    /// Version of this format.
    public let schemaVersion: Int
    /// What the bundle was exported for.
    public let backend: String
    /// Shape of the pipeline.
    public let family: Family
    /// Versions of kdexport and of what it used, by package name.
    public let tools: [String: String]
    /// Where the model came from.
    public let source: SourceRecord
    /// The models.
    public let components: [Component]
    /// One entry per text encoder, in the order in which their outputs are concatenated.
    public let text: [TextEncoding]
    /// Whether an absent negative prompt means zero embeddings.
    public let zeroNegative: Bool
    /// The latent space.
    public let latents: LatentSpace
    /// The sizes allowed.
    public let shapes: Shapes
    /// What a run uses by default.
    public let defaults: Defaults
    /// The compiled samplers, the model's own first.
    public let samplers: [SamplerRecord]
    /// Every file of the bundle but the manifest and the record of parity.
    public let files: [FileRecord]
    /// How a picture steers a run, or nil where the bundle has no ControlNet.
    public let control: ControlRecord?
    /// Size of the guidance embedding that the U-Net takes instead of a negative prompt, or nil.
    public let guidanceEmbedding: Int?
    /// How the packages were made.
    public let coreml: CoreMLRecord?

    /// The component with a role, or nil where the bundle has none.
    public func component(_ role: Component.Role) -> Component? {
        components.first { $0.role == role }
    }

    /// Whether a run can start from a picture.
    public var canStartFromPicture: Bool { component(.vaeEncoder) != nil }

    /// Bytes of the files of a component.
    public func bytes(of component: Component) -> Int {
        files.filter { record in
            component.files.contains { record.path == $0 || record.path.hasPrefix("\($0)/") }
        }.reduce(0) { $0 + $1.bytes }
    }
}

extension Manifest: Decodable {
    enum CodingKeys: String, CodingKey {
        case schemaVersion = "schema_version"
        case backend, family, tools, source, components, text
        case zeroNegative = "zero_negative"
        case latents, shapes, defaults, samplers, files, control
        case guidanceEmbedding = "guidance_embedding"
        case coreml
    }
}
