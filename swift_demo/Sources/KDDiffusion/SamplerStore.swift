import KDNumerics

/// The sampler's table of a run and, with a picture, how the run begins.
struct Schedule: Sendable {
    let table: SamplerTable
    let start: ImageStart?
}

/// The sampler tables of a bundle that were read so far.
struct SamplerStore: Sendable {
    private var samplers: [String: Sampler] = [:]
    private var imageSamplers: [String: ImageSampler] = [:]

    /// The schedule of a plan.
    ///
    /// - Throws: `KDError.request` where the bundle has no such sampler, or none that starts from a
    ///   picture, `KDError.unreadableFile`, or `SamplerError` where it has no such table.
    mutating func schedule(for plan: Plan, bundle: ModelBundle) throws -> Schedule {
        let records = bundle.manifest.samplers
        guard let record = records.first(where: { $0.name == plan.scheduler }) else {
            throw KDError.request(.scheduler(plan.scheduler, allowed: records.map(\.name)))
        }
        let sampler =
            try samplers[record.name] ?? bundle.decode(Sampler.self, from: record.file)
        samplers[record.name] = sampler
        let table = try sampler.table(steps: plan.steps)
        guard plan.initial != nil else { return Schedule(table: table, start: nil) }
        guard let file = record.image else {
            let able = records.filter { $0.image != nil }.map(\.name)
            throw KDError.request(.noPictureStart(scheduler: record.name, allowed: able))
        }
        let starts =
            try imageSamplers[record.name] ?? bundle.decode(ImageSampler.self, from: file)
        imageSamplers[record.name] = starts
        let start = try starts.start(steps: plan.steps, first: plan.skipped)
        return Schedule(table: try start.table(table), start: start)
    }
}
