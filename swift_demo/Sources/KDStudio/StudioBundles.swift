import Foundation
import KDDiffusion

extension Studio {
    /// Lists bundles and pictures, and opens a bundle; does nothing the second time, such as for
    /// another window.
    ///
    /// - Parameter preferred: The `id` of the bundle that was open last; without it, or where it is
    ///   gone, the first usable one is opened.
    public func start(preferred: String? = nil) async {
        if isStarted { return }
        isStarted = true
        let library = environment.library
        let gallery = environment.gallery
        library.tidy()
        (entries, items) = await offMain { (library.entries(), gallery.items()) }
        let usable = entries.filter { $0.problem == nil }
        guard let entry = usable.first(where: { $0.id == preferred }) ?? usable.first else {
            return
        }
        await open(entry)
    }

    /// Loads the models of a bundle, after what is being drawn was cancelled.
    public func open(_ entry: BundleEntry) async {
        do {
            let bundle = try entry.bundle.get()
            let rules = SettingsRules(bundle.manifest)
            // The first bundle brings its defaults; later ones take over what fits them.
            settings = self.rules == nil ? keepingTexts(rules.defaults) : rules.fitted(settings)
            self.rules = rules
            current = entry
            await load(bundle)
        } catch {
            notice = error.localizedDescription
        }
    }

    /// Loads the current bundle again, such as after it failed.
    public func reload() async {
        guard let bundle = try? current?.bundle.get() else { return }
        await load(bundle, reducedMemory: reducedMemory)
    }

    /// Chooses between less memory and less waiting, and loads the models anew.
    public func setReducedMemory(_ isOn: Bool) async {
        guard isOn != reducedMemory, let bundle = try? current?.bundle.get() else { return }
        await load(bundle, reducedMemory: isOn)
    }

    /// Copies a bundle into the library, checks it, and opens it where none is open.
    ///
    /// - Parameter folder: The bundle's folder, as the user picked it.
    public func add(_ folder: URL) async {
        guard adding == nil else { return }
        adding = .copying(0)
        let library = environment.library
        let (steps, told) = AsyncStream.makeStream(
            of: BundleLibrary.Progress.self, bufferingPolicy: .bufferingNewest(1))
        let copying = Task.detached {
            defer { told.finish() }
            return try library.add(folder) { told.yield($0) }
        }
        addition = copying
        for await step in steps { adding = step }
        let result = await copying.result
        addition = nil
        adding = nil
        entries = await offMain { library.entries() }
        switch result {
        case .success(let entry): if current == nil { await open(entry) }
        case .failure(is CancellationError): break
        case .failure(let error): notice = error.localizedDescription
        }
    }

    /// Stops copying a bundle; what was copied is deleted.
    public func cancelAdding() { addition?.cancel() }

    /// Deletes a bundle that the user brought; the open one is closed first.
    public func remove(_ entry: BundleEntry) async {
        if entry.id == current?.id { await close() }
        let library = environment.library
        if let manifest = (try? entry.bundle.get())?.manifest { await environment.forget(manifest) }
        do {
            try await offMain { try library.remove(entry) }
        } catch {
            notice = error.localizedDescription
        }
        entries = await offMain { library.entries() }
    }
}

extension Studio {
    /// Loads the models of a bundle in place of those that are loaded, one at a time where that is
    /// asked for, or where nothing is and memory is short.
    private func load(_ bundle: ModelBundle, reducedMemory: Bool? = nil) async {
        await stop()
        loads += 1
        let mine = loads
        phase = .loading
        if let reducedMemory { self.reducedMemory = reducedMemory }
        // Before the others are loaded: there may not be room for both.
        await takeDrawer()?.unload()
        // Meanwhile the user may have chosen another one.
        guard mine == loads else { return }
        if reducedMemory == nil {
            self.reducedMemory = MemoryAdvice(bundle.manifest).suggestsReducedMemory(memory)
        }
        let task = Task {
            do {
                try await makeDrawer(bundle).prepare()
                phase = .ready
            } catch is CancellationError {
                // Whoever cancelled says what comes next; a picture loads what it needs.
                phase = .ready
            } catch {
                phase = .failed(error.localizedDescription)
            }
        }
        work = task
        await task.value
    }

    /// Frees the current bundle.
    private func close() async {
        await stop()
        loads += 1
        current = nil
        rules = nil
        preview = nil
        phase = .noBundle
        await takeDrawer()?.unload()
    }

    private func keepingTexts(_ defaults: Settings) -> Settings {
        var settings = defaults
        settings.prompt = self.settings.prompt
        settings.negativePrompt = self.settings.negativePrompt
        settings.seed = self.settings.seed
        settings.livePreview = self.settings.livePreview
        return settings
    }
}
