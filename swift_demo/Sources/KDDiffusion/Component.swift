/// One model of the pipeline, as the manifest describes it.
public struct Component: Sendable, Equatable {
    /// The part of the pipeline that a model plays.
    public enum Role: String, Sendable, CaseIterable, Decodable {
        case textEncoder = "text_encoder"
        case textEncoder2 = "text_encoder_2"
        case controlnet
        case unet
        case vaeDecoder = "vae_decoder"
        case vaeEncoder = "vae_encoder"
    }

    /// What it is for.
    public let role: Role
    /// The package, relative to the bundle; of a component in chunks the first of them.
    public let file: String
    /// Precision of its weights and activations, such as `fp16`.
    public let precision: String
    /// Inputs in order.
    public let inputs: [TensorSpec]
    /// Outputs in order.
    public let outputs: [TensorSpec]
    /// Number of weights.
    public let parameters: Int
    /// The packages that are run one after the other, each fed what the component is fed and what
    /// those before it gave, by name; empty where `file` is all.
    public let chunks: [String]
    /// What an input or output of the packages means in the loop, by its name.
    public let ports: [String: String]
    /// What the package itself multiplies the residuals of a ControlNet by.
    public let residualScale: Double

    /// The packages that are run, one after the other.
    public var files: [String] { chunks.isEmpty ? [file] : chunks }

    /// Makes a record, as `manifest.json` would hold it.
    public init(
        role: Role, file: String, precision: String = "fp16", inputs: [TensorSpec],
        outputs: [TensorSpec], parameters: Int = 0, chunks: [String] = [],
        ports: [String: String], residualScale: Double = 1
    ) {
        self.role = role
        self.file = file
        self.precision = precision
        self.inputs = inputs
        self.outputs = outputs
        self.parameters = parameters
        self.chunks = chunks
        self.ports = ports
        self.residualScale = residualScale
    }
}

extension Component: Decodable {
    private enum Keys: String, CodingKey {
        case role, file, precision, inputs, outputs, parameters, chunks, ports
        case residualScale = "residual_scale"
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Keys.self)
        self.init(
            role: try values.decode(Role.self, forKey: .role),
            file: try values.decode(String.self, forKey: .file),
            precision: try values.decode(String.self, forKey: .precision),
            inputs: try values.decode([TensorSpec].self, forKey: .inputs),
            outputs: try values.decode([TensorSpec].self, forKey: .outputs),
            parameters: try values.decode(Int.self, forKey: .parameters),
            chunks: try values.decodeIfPresent([String].self, forKey: .chunks) ?? [],
            ports: try values.decodeIfPresent([String: String].self, forKey: .ports) ?? [:],
            residualScale: try values.decodeIfPresent(Double.self, forKey: .residualScale) ?? 1)
    }
}
